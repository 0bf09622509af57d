# shellcheck shell=bash
# The programs of this machine that the script uses, and the Debian packages that bring them.

archive_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Prints the packages that are missing here.
missing_packages() {
    local command package
    while read -r command package; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || printf '%s\n' "$package"
    done <<'EOF'
qemu-system-x86_64 qemu-system-x86
mmdebstrap mmdebstrap
mke2fs e2fsprogs
depmod kmod
flock util-linux
cc gcc
EOF
    [[ -e $archive_keyring ]] || echo debian-archive-keyring
    # Without root, mmdebstrap needs a user namespace with many ids, and fakeroot keeps the owners.
    if ((EUID != 0)); then
        command -v fakeroot >/dev/null || echo fakeroot
        command -v newuidmap >/dev/null || echo uidmap
    fi
}

# Installs what is missing when it may, else says what to install.
require_tools() {
    local missing
    PATH=$PATH:/usr/sbin:/sbin
    mapfile -t missing < <(missing_packages)
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null ||
        fail "missing here: ${missing[*]} (names of Debian packages), and there is no apt-get to install them with"
    if ((EUID != 0)); then
        fail "missing here; as root: apt-get install --no-install-recommends ${missing[*]}"
    fi
    step "installing ${missing[*]}" install_packages "${missing[@]}"
    mapfile -t missing < <(missing_packages)
    ((${#missing[@]} == 0)) || fail "still missing after apt-get install: ${missing[*]}"
}

install_packages() {
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300
        install -y --no-install-recommends "$@")
    # The lists of a fresh machine are empty, and those of an old one name files that are gone.
    "${install[@]}" || { apt-get update && "${install[@]}"; }
}
