# shellcheck shell=bash
# Programs that tests on this machine use beside ours. A test that lacks one is a skip with its reason.

# Installs what is missing where it may, else says what to install. $1: who asks.
offer_programs() {
    local program missing=()
    for program in minisign curl python3 socat stress-ng perl git; do
        command -v "$program" >/dev/null || missing+=("$program")
    done
    command -v systemd-analyze >/dev/null || missing+=(systemd)
    ((${#missing[@]})) || return 0
    if ((EUID == 0)) && command -v apt-get >/dev/null; then
        apt-get update -q && DEBIAN_FRONTEND=noninteractive \
            apt-get install -qy --no-install-recommends "${missing[@]}" && return 0
    fi
    echo "$1: some tests are skipped; to have them, as root: apt-get install --no-install-recommends ${missing[*]}" >&2
}
