# shellcheck shell=bash
# Sees to it that there is something to build with.

# Installs the C compiler where it may, else says exactly what to install. $1: who asks.
require_compiler() {
    command -v cargo >/dev/null || {
        echo "$1: there is no cargo: install a Rust toolchain, https://rustup.rs" >&2
        exit 1
    }
    command -v cc >/dev/null && return
    # For SQLite and zstd, which are compiled in.
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        echo "$1: there is no C compiler; as root: apt-get install --no-install-recommends gcc libc6-dev" >&2
        exit 1
    fi
    apt-get update -q && DEBIAN_FRONTEND=noninteractive \
        apt-get install -qy --no-install-recommends gcc libc6-dev
}
