# shellcheck shell=bash
# What is told of the results that run-tests left in a directory.

# Prints what each failed test had printed, the last 150 lines of it.
show_failures() {
    local log
    for log in "$1"/logs/*-failed.log; do
        [[ -e $log ]] || continue
        printf '\n--- %s\n' "$(head -n 1 "$log")"
        tail -n +2 "$log" | tail -n 150
    done
}

# Prints the number of tests with an outcome.
count() {
    awk -F '\t' -v outcome="$2" '$1 == outcome { n++ } END { print n + 0 }' "$1/results.tsv"
}

# Prints the tests with an outcome, with the reasons.
list() {
    awk -F '\t' -v outcome="$2" '$1 == outcome { printf "  %s %s: %s\n", $3, $4, $5 }' "$1/results.tsv"
}
