# shellcheck shell=bash
# What goes into the machine for one run: the payload disk (this source tree and the fresh build) and
# the job disk (a tar archive that says what to do with them).

# shellcheck source=scripts/test.d/build.sh
. "$root/scripts/test.d/build.sh"
# shellcheck source=scripts/test.d/attacks.sh
. "$root/scripts/test.d/attacks.sh"

# Makes $work/payload.img. In it: src/, the source tree; target/, the executables, at the paths that
# they have beneath cargo's target directory; bin/, links to those that are programs. The machine
# mounts the first two where they are here, so that paths compiled into a test are right there.
stage_payload() {
    local stage=$work/payload test kind directory name file list chosen
    local owner=()
    ((EUID == 0)) || owner=(fakeroot --)
    mkdir -p "$stage/src" "$stage/bin" "$stage/target"
    target=$(target_directory "$root") || fail "cargo metadata failed in $root: is there a Rust toolchain?"
    if [[ $1 == tests ]]; then
        step "building the tests" build_everything "$root" "$work/built.tsv"
    else
        step "building" build_programs "$root" "$work/built.tsv"
    fi
    list=$(attack_list "$root" "$kernel-$as")
    [[ -z $attacks ]] || only=$list
    while IFS=$'\t' read -r test kind directory name file; do
        if [[ $test == true ]]; then
            choose_tests "$directory" "$name" "$file" || continue
            printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$test" "$kind" "$directory" "$name" "$file" "$chosen" >>"$work/tests"
        fi
        # A link, where both are on one file system.
        mkdir -p "$stage/target/$(dirname "${file#"$target"/}")"
        cp -lf "$file" "$stage/target/${file#"$target"/}" 2>/dev/null ||
            cp "$file" "$stage/target/${file#"$target"/}"
        [[ $test == true || $kind != bin ]] || ln -sf "../target/${file#"$target"/}" "$stage/bin/$name"
    done <"$work/built.tsv"
    source_files | tar -C "$root" --null --no-recursion -T - -c | tar -C "$stage/src" -x
    # Room for what tests write; sparse.
    truncate -s "$(($(du -sm "$stage" | cut -f 1) + 1024))M" "$work/payload.img"
    step "making the payload disk" "${owner[@]}" \
        mke2fs -q -t ext4 -O ^has_journal -E root_owner=0:0 -d "$stage" "$work/payload.img"
    rm -rf "$stage"
}

# Chooses what of a test executable goes into the machine: all of it, or its tests of the attack list, which $chosen then
# is. False if there is nothing. $1 is the directory of the package, $2 the name of the target, $3 the file.
choose_tests() {
    local tests
    chosen=''
    if in_machine "${1#"$root"/}" "$2"; then
        [[ -n $attacks ]] || return 0
    else
        has_attacks_in_machine "${1#"$root"/}" "$2" || return 1
    fi
    chosen=$list
    tests=$(cd "$1" && "$3" --list --format terse </dev/null) || fail "$3 does not list its tests"
    # Not from a pipe: a grep that has its answer closes it, and a long list would count as not taken.
    grep -qE "$chosen" < <(sed -nE 's/(.*): test$/ \1/p' <<<"$tests")
}

# The files of the source tree, NUL after each: what git tracks or would, else all but the build.
source_files() {
    local file
    if git -C "$root" rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git -C "$root" ls-files -z --cached --others --exclude-standard
    else
        (cd "$root" && find . \( -name target -o -name .git \) -prune -o -type f -print0)
    fi | while IFS= read -r -d '' file; do
        # Deleted, but not yet from the index.
        [[ ! -e $root/$file ]] || printf '%s\0' "$file"
    done
}

# Makes $work/job.tar from the mode and the command.
make_job() {
    local job=$work/job mode=$1 skips='' auditing='' patience=300
    shift
    cp -r "$here/job" "$job"
    # Kernel 6.1 has Landlock ABI 2, and 6.12 none of the records of what was denied; the newest promises all.
    case $kernel in
        6.1) skips=landlock ;;
        6.12) skips='landlock abi 7' ;;
        *) auditing=on ;;
    esac
    case $as in
        user) skips+=${skips:+|}'needs root|only root' ;;
        # The kernel tells its audit to one network namespace, and an overlay is on no disk.
        container) skips+=${skips:+|}'layer `audit`|on no disk' ;;
    esac
    # That one test takes so long.
    [[ ${BULKHEAD_STRESSORS-} != all ]] || patience=1200
    printf '%s=%q\n' mode "$mode" workspace "$root" target "$target" \
        within $((timeout > 240 ? timeout - 120 : timeout / 2)) \
        jobs "${BULKHEAD_VM_TEST_JOBS:-2}" stressors "${BULKHEAD_STRESSORS-}" patience "$patience" allowed_skips "$skips" auditing "$auditing" \
        only "$only" except "$([[ -n $only ]] || echo "$computing")" \
        as "$as" attacks "$attacks" >"$job/settings"
    if [[ $mode == command ]]; then
        printf '%s\0' "$@" >"$job/command"
    else
        cp "$work/tests" "$job/tests"
    fi
    tar -C "$job" --owner=0 --group=0 -cf "$work/job.tar" .
}
