# shellcheck shell=bash
# The machine: QEMU with the image's kernel, three disks, four one-way ports, and no network.

machine_pid='' machine_status=''

# Boots, waits for the end, and sets machine_status to what the job reported.
run_machine() {
    local accel out err status=0 readers=() name arguments=()
    accel=$(choose_accel)
    mkfifo "$work/stdout" "$work/stderr"
    # Open at both ends from here on, so that neither side waits for the other, and the readers end
    # when QEMU and we have let go.
    exec {out}<>"$work/stdout" {err}<>"$work/stderr"
    cat "$work/stdout" {out}>&- {err}>&- &
    readers+=($!)
    cat "$work/stderr" >&2 {out}>&- {err}>&- &
    readers+=($!)
    arguments=(
        -drive "file=$work/payload.img,if=none,id=payload,format=raw,cache=unsafe"
        -device virtio-blk-pci,serial=payload,drive=payload
        -drive "file=$work/job.tar,if=none,id=job,format=raw,readonly=on"
        -device virtio-blk-pci,serial=job,drive=job
        -device virtio-serial-pci
    )
    for name in stdout stderr status results; do
        arguments+=(-chardev "file,id=$name,path=$work/$name"
            -device "virtserialport,chardev=$name,name=bulkhead.$name")
    done
    start_machine "$accel" "$timeout" "systemd.show_status=0" "${arguments[@]}" {out}>&- {err}>&-
    if [[ -n $console ]]; then
        tail -n +1 -f --pid="$machine_pid" "$work/console" >&2 {out}>&- {err}>&- &
        readers+=($!)
    fi
    wait "$machine_pid" || status=$?
    machine_pid=''
    exec {out}>&- {err}>&-
    wait "${readers[@]}" || true
    machine_status=$(sed -nE 's/^exit ([0-9]+)$/\1/p' "$work/status" 2>/dev/null || true)
    [[ -n $machine_status ]] || explain_death "$status"
}

# Starts QEMU, to be killed after so many seconds, and sets machine_pid.
start_machine() {
    local accel=$1 seconds=$2 append=$3 processor processors=${BULKHEAD_VM_CPUS:-2}
    shift 3
    if [[ $accel == kvm ]]; then
        processor=(-accel kvm -cpu host)
    elif [[ ${BULKHEAD_VM_CLOCK:-instructions} == host ]]; then
        processor=(-accel tcg,thread=multi -cpu max)
    else
        # The machine's clock counts the instructions that it executes (1 ns each), and real time only
        # while it is idle: on a busy host it runs later, but does not find itself slow. Tests that
        # measure time depend on it. Without cx16, because QEMU 7.2 loses the flags after a cmpxchg16b
        # then, and the kernel's allocator panics, once in a long run.
        processor=(-accel tcg,thread=single -icount shift=0 -rtc clock=vm -cpu max,cx16=off)
        # Kernel 6.1 has waited for its second processor for ever then.
        [[ $kernel != 6.1 ]] || processors=${BULKHEAD_VM_CPUS:-1}
    fi
    : >"$work/console"
    # The root disk is read through a snapshot: runs share the image, and nothing that they write.
    TMPDIR=$work timeout --kill-after=5 "$seconds" qemu-system-x86_64 \
        "${processor[@]}" -smp "$processors" -m "${BULKHEAD_VM_MEMORY:-2G}" \
        -nodefaults -no-user-config -display none -nic none -no-reboot -serial "file:$work/console" \
        -kernel "$work/vmlinuz" -append "console=ttyS0 root=/dev/nvme0n1 rw quiet panic=-1 $append" \
        -drive "file=$work/disk.img,if=none,id=root,format=raw,cache=unsafe,snapshot=on" \
        -device nvme,serial=root,drive=root "$@" </dev/null >"$work/qemu.log" 2>&1 &
    machine_pid=$!
}

# `timeout` passes the signal on to QEMU.
stop_machine() {
    [[ -z $machine_pid ]] || kill "$machine_pid" 2>/dev/null || true
}

# Prints kvm where a guest really boots with it, else tcg. That /dev/kvm exists says little: in a
# nested machine a stock kernel may hang. Tried once, with init=/bin/true and 20 s, and remembered
# for as long as this kernel runs.
choose_accel() {
    local verdict mark
    case ${BULKHEAD_VM_ACCEL:-auto} in
        tcg | kvm) echo "$BULKHEAD_VM_ACCEL" && return ;;
        auto) ;;
        *) fail "BULKHEAD_VM_ACCEL is '$BULKHEAD_VM_ACCEL': tcg, kvm or auto" ;;
    esac
    [[ -r /dev/kvm && -w /dev/kvm ]] || {
        echo tcg
        return
    }
    mark=$(</proc/sys/kernel/random/boot_id)
    verdict=$(sed -n "s/^$mark //p" "$cache/accel" 2>/dev/null || true)
    if [[ -z $verdict ]]; then
        verdict=tcg
        start_machine kvm 20 init=/bin/true
        wait "$machine_pid" || true
        ! grep -q 'Attempted to kill init' "$work/console" || verdict=kvm
        printf '%s %s\n' "$mark" "$verdict" >"$work/accel"
        mv "$work/accel" "$cache/accel"
        note "KVM: $([[ $verdict == kvm ]] && echo works here || echo 'a guest does not boot with it here, using TCG')"
    fi
    echo "$verdict"
}

# The machine ended without a result: says so, and shows what there is to know.
explain_death() {
    {
        echo '--- the machine'"'"'s console (last 60 lines)'
        tail -n 60 "$work/console"
        echo '--- QEMU'
        cat "$work/qemu.log"
        echo '---'
    } >&2
    case $1 in
        124 | 137) fail "the machine was killed after $timeout s (--timeout), with no result: kernel $kernel_release" ;;
        *) fail "the machine ended with no result (QEMU's status $1): kernel $kernel_release" ;;
    esac
}
