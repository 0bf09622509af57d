# shellcheck shell=bash
# What the script says on standard error, and how it gives up.

note() {
    printf 'vm: %s\n' "$*" >&2
}

# There is no machine to run anything in: 125, which no test and hardly a command returns.
fail() {
    printf 'vm: error: %s\n' "$*" >&2
    exit 125
}

usage_error() {
    printf 'vm: %s\nvm: see scripts/vm --help\n' "$*" >&2
    exit 2
}

# Runs a long step. Its output is shown as it comes on a terminal; elsewhere only if it fails, so
# that a caller's standard error has what the command in the machine wrote, and nothing else.
step() {
    local what=$1 log
    shift
    if [[ -t 2 ]]; then
        note "$what"
        "$@" >&2 || fail "$what: failed (status $?)"
        return
    fi
    log=$work/step.log
    "$@" >"$log" 2>&1 || {
        local status=$?
        cat "$log" >&2
        fail "$what: failed (status $status), output above"
    }
}
