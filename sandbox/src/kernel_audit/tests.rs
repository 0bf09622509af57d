use super::*;

fn packet(kind: u16, text: &str) -> Vec<u8> {
    let mut packet = vec![0; HEADER];
    packet[4..6].copy_from_slice(&kind.to_ne_bytes());
    packet.extend(text.as_bytes());
    packet
}

fn record(uid: &str, comm: &str, arch: &str, call: &str) -> Vec<u8> {
    packet(
        SECCOMP,
        &format!(
            "audit(1795849253.233:2): auid=4294967295 uid={uid} gid=7 ses=1 pid=24938 comm={comm} \
             exe=\"/plugin/bin/x\" sig=31 arch={arch} syscall={call} compat=0 ip=0x7f code=0x80000000\0"
        ),
    )
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_record_says_whose_call_it_was_and_which() {
    let of = |arch, call| parse(&record("1900124936", "\"x\"", arch, call)).unwrap();
    assert_eq!(of("c000003e", "101"), Denial { uid: 1_900_124_936, call: "ptrace".into() });
    assert_eq!(of("c000003e", "9999").call, "number 9999");
    assert_eq!(of("c000003e", "1073741863").call, "number 39 of x32");
    assert_eq!(of("40000003", "20").call, "number 20 by int 0x80");
}

#[test]
fn what_the_program_chose_cannot_pass_for_another_field() {
    // As the kernel writes the name `x uid=0`: in hexadecimal, as it has a blank.
    let hex = "78207569643D30";
    assert_eq!(parse(&record("77", hex, "c000003e", "101")).unwrap().uid, 77);
    assert_eq!(parse(&record("77", "\"uid=0\"", "c000003e", "101")).unwrap().uid, 77);
}

#[test]
fn other_records_and_broken_ones_are_nothing() {
    let whole = record("77", "\"x\"", "c000003e", "101");
    assert!(parse(&whole).is_some());
    assert_eq!(parse(&packet(1300, "arch=c000003e syscall=101 uid=77")), None);
    for length in [0, HEADER - 1, HEADER, HEADER + 20] {
        assert_eq!(parse(&whole[..length]), None, "{length} bytes");
    }
    assert_eq!(parse(&record("-1", "\"x\"", "c000003e", "101")), None);
    assert_eq!(parse(&record("77", "\"x\"", "zz", "101")), None);
    assert_eq!(parse(&record("77", "\"x\"", "c000003e", "99999999999")), None);
}
