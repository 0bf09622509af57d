# shellcheck shell=bash
# Debian's archive, read through apt with lists, cache and sources of our own: the sources of this
# machine stay as they are, and no root is needed.

# The archive that this machine's own apt reads.
machine_mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        sed -nE 's#/debian/?$##p' | head -n 1
}

mirror=${BULKHEAD_VM_MIRROR:-$(machine_mirror)}
if [[ -z $mirror ]]; then
    fail "apt names no Debian archive on this machine: set BULKHEAD_VM_MIRROR to one, without /debian"
fi

# The suite of the root file system: the oldest whose C library is not older than this machine's,
# since what is built here runs there.
guest_suite() {
    local libc
    libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) ||
        fail "this machine's C library is not glibc: binaries built here would not start in a Debian guest"
    libc=${libc#glibc }
    local suite newest
    while read -r newest suite; do
        if [[ $(printf '%s\n' "$libc" "$newest" | sort -V | tail -n 1) == "$newest" ]]; then
            echo "$suite"
            return
        fi
    done <<'EOF'
2.36 bookworm
2.41 trixie
EOF
    fail "this machine's glibc $libc is newer than that of Debian trixie (2.41): binaries built here would not start there"
}

# The apt sources of the root file system of a suite.
suite_sources() {
    local by="[signed-by=$archive_keyring]"
    printf 'deb %s %s/debian %s main\n' "$by" "$mirror" "$1"
    printf 'deb %s %s/debian-security %s-security main\n' "$by" "$mirror" "$1"
}

# The apt sources of the kernels: 6.1 and 6.12 are bookworm's (6.12 from its security suite), the
# newest is that of trixie-backports.
kernel_sources() {
    suite_sources bookworm
    printf 'deb [signed-by=%s] %s/debian trixie-backports main\n' "$archive_keyring" "$mirror"
}

# apt of our own, in the directory $work/apt.
own_apt() {
    local tool=$1
    shift
    "$tool" -q -o Dir::State="$work/apt/state" -o Dir::State::status="$work/apt/status" \
        -o Dir::Cache="$work/apt/cache" -o Dir::Etc::SourceList="$work/apt/sources.list" \
        -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::Preferences=/dev/null \
        -o Dir::Etc::PreferencesParts=/dev/null -o APT::Sandbox::User= \
        -o APT::Architecture=amd64 -o Acquire::Languages=none \
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::Retries=3 "$@"
}

read_archive() {
    mkdir -p "$work/apt/state/lists/partial" "$work/apt/cache/archives/partial"
    : >"$work/apt/status"
    kernel_sources >"$work/apt/sources.list"
    own_apt apt-get update
}

# Prints the newest version of a kernel series that the archive has, e.g. 6.12.117+deb12-cloud-amd64.
# Debian's cloud flavour has NVMe, ext4 and the virtio console built in, so it needs no initramfs.
kernel_version() {
    local pattern
    case $1 in
        6.1) pattern='6\.1\.0-[0-9]+' ;;
        6.12) pattern='6\.12\.[0-9]+\+deb12' ;;
        newest) pattern='[0-9]+\.[0-9]+\.[0-9]+\+deb[0-9]+' ;;
    esac
    own_apt apt-cache pkgnames linux-image- |
        sed -nE "s/^linux-image-($pattern-cloud-amd64)\$/\\1/p" | sort -V | tail -n 1
}

# Unpacks the kernel of a version: its modules become $2/modules, its image $2/vmlinuz.
unpack_kernel() {
    local version=$1 into=$2 names package path tree=$2/tree
    # Newer ones come in two packages, and keep the image beside the modules.
    mapfile -t names < <(own_apt apt-cache pkgnames linux- |
        grep -xE "linux-(binary|modules)-${version//+/\\+}" || true)
    ((${#names[@]})) || names=("linux-image-$version")
    mkdir -p "$into/deb" "$tree"
    (cd "$into/deb" && own_apt apt-get download "${names[@]}")
    for package in "$into"/deb/*.deb; do
        dpkg-deb -x "$package" "$tree"
    done
    for path in "$tree/usr/lib/modules/$version" "$tree/lib/modules/$version"; do
        [[ ! -d $path ]] || mv "$path" "$into/modules"
    done
    for path in "$into/modules/vmlinuz" "$tree/boot/vmlinuz-$version"; do
        [[ ! -e $path ]] || mv "$path" "$into/vmlinuz"
    done
    rm -rf "$into/deb" "$tree"
    [[ -s $into/vmlinuz && -d $into/modules ]] || {
        echo "no kernel image or no modules in ${names[*]}" >&2
        return 1
    }
}
