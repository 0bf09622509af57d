# shellcheck shell=bash
# The image: a Debian root file system with systemd, and a kernel of Debian's, unmodified.
#
# In the cache directory: system-KEY.tar, the root file system without a kernel; and for each kernel
# series image-SERIES-KEY/ with `disk.img` (ext4), `vmlinuz` and `version`. KEY is a hash of all that
# goes in. Each appears by a rename, complete. A run links the files that it uses into its own
# directory, so another run may replace the image meanwhile.

# What the tests, and a person who looks around, find in the machine.
guest_packages=(
    # the system
    systemd systemd-sysv udev dbus dbus-user-session libpam-systemd login util-linux kmod
    # to look and to ask
    procps iproute2 strace socat curl ca-certificates jq
    # to load, to sign, and to be run in a compartment
    stress-ng minisign python3 perl git
)

prepare_image() {
    local series=$1 suite key image
    suite=$(guest_suite)
    key=$(image_key "$suite")
    image=$cache/image-$series-$key
    # Runs that were killed leave their directories.
    find "$cache" -maxdepth 1 -name 'run.*' -mmin +1440 -exec rm -rf {} +
    exec {image_lock}>"$cache/lock-$series"
    flock "$image_lock"
    if [[ -n $refresh || ! -d $image ]]; then
        step "reading Debian's package lists" read_archive
        make_image "$series" "$suite" "$key" "$image"
    fi
    ln "$image/disk.img" "$image/vmlinuz" "$image/version" "$work/"
    exec {image_lock}>&-
    kernel_release=$(<"$work/version")
}

# A hash of everything that decides what the image contains, but for the state of the archive.
image_key() {
    {
        printf '%s\n' "$1" "$mirror" "${guest_packages[@]}"
        cat "$here/image.sh" "$here/archive.sh"
        (cd "$here/guest" && find . -type f -perm -u=x -printf 'x %p\n' -o -type f -printf '- %p\n' | sort &&
            find . -type f -print0 | sort -z | xargs -0 sha256sum)
    } | sha256sum | cut -c 1-16
}

make_image() {
    local series=$1 suite=$2 key=$3 image=$4 version old
    version=$(kernel_version "$series")
    [[ -n $version ]] || fail "the archive at $mirror has no linux-image for kernel $series (cloud flavour, amd64)"
    make_system "$suite" "$key"
    mkdir "$work/image"
    local owner=()
    ((EUID == 0)) || owner=(fakeroot --)
    step "making the disk with kernel $version" "${owner[@]}" \
        bash -euo pipefail -c "$(declare -f own_apt unpack_kernel make_disk); make_disk \"\$@\"" make_disk \
        "$work" "$cache/system-$key.tar" "$version" "$work/image"
    printf '%s\n' "$version" >"$work/image/version"
    for old in "$cache/image-$series-"*; do
        [[ ! -d $old ]] || rm -rf -- "$old"
    done
    mv -T "$work/image" "$image"
}

# Makes the root file system without a kernel, once for all kernels.
make_system() {
    local suite=$1 key=$2 system=$cache/system-$2.tar old
    exec {system_lock}>"$cache/lock-system"
    flock "$system_lock"
    # Several kernels refreshed in a row need not make it more than once.
    if [[ ! -s $system || (-n $refresh && -n $(find "$system" -mmin +60)) ]]; then
        suite_sources "$suite" >"$work/system.list"
        tar -C "$here/guest" --owner=0 --group=0 --mode=u=rwX,go=rX --sort=name -cf "$work/guest.tar" .
        step "making a Debian $suite root file system" mmdebstrap --variant=minbase --format=tar \
            --include="$(
                IFS=,
                echo "${guest_packages[*]}"
            )" \
            --aptopt='APT::Install-Recommends "false"' \
            --customize-hook="tar-in $work/guest.tar /" \
            --customize-hook='chroot "$1" sh /usr/local/lib/bulkhead-vm/configure' \
            "$suite" "$work/system.tar" "$work/system.list"
        for old in "$cache"/system-*.tar; do
            rm -f -- "$old"
        done
        mv "$work/system.tar" "$system"
    fi
    exec {system_lock}>&-
}

# Runs as root, or as what fakeroot calls so: the files keep their owners.
make_disk() {
    local system=$2 version=$3 into=$4 tree=$1/tree
    work=$1
    mkdir "$tree"
    tar -C "$tree" --numeric-owner -xf "$system"
    unpack_kernel "$version" "$work/kernel"
    # /lib is a link to /usr/lib in the root file system.
    mkdir -p "$tree/usr/lib/modules"
    mv "$work/kernel/modules" "$tree/usr/lib/modules/$version"
    depmod -b "$tree" "$version"
    # Sparse. No mount: mke2fs copies the tree itself.
    truncate -s 4G "$into/disk.img"
    mke2fs -q -t ext4 -L bulkhead-vm -d "$tree" "$into/disk.img"
    mv "$work/kernel/vmlinuz" "$into/vmlinuz"
    rm -rf "$tree" "$work/kernel"
}
