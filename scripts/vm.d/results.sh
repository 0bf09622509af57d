# shellcheck shell=bash
# What the tests in the machine found.

# shellcheck source=scripts/test.d/summary.sh
. "$root/scripts/test.d/summary.sh"

# The commit of the source tree, in short, and whether something was changed since.
commit() {
    git -C "$root" rev-parse --is-inside-work-tree >/dev/null 2>&1 || {
        echo 'no commit'
        return
    }
    printf '%s%s\n' "$(git -C "$root" rev-parse --short=12 HEAD)" \
        "$([[ -z $(git -C "$root" status --porcelain --untracked-files=no) ]] || echo ' and changes')"
}

# Unpacks the results that came from the machine; without --results tells of them here.
deliver_results() {
    local into=${results:-$work/found}
    mkdir -p "$into"
    tar -C "$into" -xf "$work/results" 2>/dev/null || fail "the machine brought back no results of its tests"
    # Of what they are the results.
    printf '%s\t%s\t%s\t%s\n' "$kernel" "$as" "$(date -u +%F)" "$staged" >"$into/run.tsv"
    [[ -z $results ]] || return 0
    show_failures "$into"
    if (($(count "$into" fail))); then
        printf '\nFailed:\n'
        list "$into" fail
    fi
    if (($(count "$into" skip))); then
        printf '\nSkipped:\n'
        list "$into" skip
    fi
    printf '\n%s passed, %s failed, %s skipped\n' \
        "$(count "$into" pass)" "$(count "$into" fail)" "$(count "$into" skip)"
}
