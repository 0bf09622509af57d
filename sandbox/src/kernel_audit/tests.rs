use super::record::Record;
use super::*;

#[test]
fn a_socket_that_is_given_again_after_a_death_keeps_its_filter() {
    use std::os::unix::net::UnixDatagram;
    let (reader, writer) = UnixDatagram::pair().unwrap();
    reader.set_nonblocking(true).unwrap();
    let socket = OwnedFd::from(reader.try_clone().unwrap());
    for _ in 0..2 {
        only_denials(&socket).unwrap();
        writer.send(&packet(1300, "arch=c000003e syscall=101")).unwrap();
        writer.send(&packet(SECCOMP, "")).unwrap();
        assert_eq!(reader.recv(&mut [0; 64]).unwrap(), HEADER);
        assert_eq!(reader.recv(&mut [0; 64]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

#[test]
#[allow(unsafe_code, reason = "neither is an audit socket, so neither is owned")]
fn a_descriptor_that_is_no_audit_socket_stays_its_owners() {
    let (reader, other) = std::os::unix::net::UnixDatagram::pair().unwrap();
    for number in [reader.as_raw_fd(), RawFd::MAX] {
        // SAFETY: it is no audit socket.
        unsafe { adopt(number) }.unwrap_err();
    }
    other.send(b"x").unwrap();
    assert_eq!(reader.recv(&mut [0; 2]).unwrap(), 1);
}

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

fn call_of(packet: &[u8]) -> Option<(u32, String)> {
    match parse(packet)? {
        Record::Call(Denial { uid, refusal: Refusal::Seccomp { call } }) => Some((uid, call)),
        _ => None,
    }
}

/// What a refusal by Landlock was of, and on what.
fn access_of(rest: &str) -> Option<(String, Option<Object>)> {
    let text = format!("audit(1795849253.233:2): domain=195ba459b {rest}");
    match parse(&packet(LANDLOCK_ACCESS, &text))? {
        Record::Access { domain, refusal: Refusal::Landlock { access, object } } => {
            assert_eq!(domain, 0x1_95ba_459b);
            Some((access, object))
        }
        _ => None,
    }
}

fn on(path: impl Into<std::path::PathBuf>) -> Object {
    Object::Path(path.into())
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_record_says_whose_call_it_was_and_which() {
    let of = |arch, call| call_of(&record("1900124936", "\"x\"", arch, call)).unwrap();
    assert_eq!(of("c000003e", "101"), (1_900_124_936, "ptrace".to_owned()));
    assert_eq!(of("c000003e", "9999").1, "number 9999");
    assert_eq!(of("c000003e", "1073741863").1, "number 39 of x32");
    assert_eq!(of("40000003", "20").1, "number 20 by int 0x80");
}

#[test]
fn what_the_program_chose_cannot_pass_for_another_field() {
    // As the kernel writes the name `x uid=0`: in hexadecimal, as it has a blank.
    let hex = "78207569643D30";
    assert_eq!(call_of(&record("77", hex, "c000003e", "101")).unwrap().0, 77);
    assert_eq!(call_of(&record("77", "\"uid=0\"", "c000003e", "101")).unwrap().0, 77);
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

#[test]
fn a_refusal_by_landlock_says_which_right_on_what() {
    let of = |rest| access_of(rest).unwrap();
    let read = of("blockers=fs.read_file path=\"/etc/shadow\" dev=\"vda2\" ino=351");
    assert_eq!(read, ("fs.read_file".to_owned(), Some(on("/etc/shadow"))));
    let two = of("blockers=fs.read_file,fs.write_file path=\"/srv/x\" dev=\"vda2\" ino=3");
    assert_eq!(two.0, "fs.read_file,fs.write_file");
    let connect = of("blockers=net.connect_tcp daddr=127.0.0.1 dest=443");
    assert_eq!(connect, ("net.connect_tcp".to_owned(), Some(Object::Port(443))));
    let bind = of("blockers=net.bind_tcp saddr=::1 src=80");
    assert_eq!(bind.1, Some(Object::Port(80)));
    assert_eq!(of("blockers=scope.signal opid=1 ocomm=\"init\"").1, None);
}

#[test]
fn a_path_is_whatever_bytes_its_maker_chose() {
    use std::ffi::OsString;
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStringExt as _;
    let of = |path: &str| access_of(&format!("blockers=fs.read_file path={path} dev=\"x\" ino=1"));
    for bytes in [
        b"/srv/a b".to_vec(),
        b"/srv/\"dest=22\"".to_vec(),
        b"/srv/x\npath=\"/etc/passwd\"".to_vec(),
        b"\0abstract".to_vec(),
        b"/srv/\xff\xfe".to_vec(),
        "/srv/\u{202e}txt".as_bytes().to_vec(),
        b"/srv/domain=1 blockers=none".to_vec(),
    ] {
        let mut hex = String::new();
        for byte in &bytes {
            write!(hex, "{byte:02X}").unwrap();
        }
        let found = of(&hex).unwrap();
        assert_eq!(found, ("fs.read_file".to_owned(), Some(on(OsString::from_vec(bytes)))));
    }
    // As the kernel never writes it.
    for broken in ["2F7", "2G", "", "\"/srv/x", "\""] {
        assert_eq!(of(broken), None, "{broken:?}");
    }
    assert_eq!(access_of("blockers=x\u{7}y path=\"/a\""), None);
    assert_eq!(access_of(&format!("blockers={} path=\"/a\"", "x".repeat(300))), None);
}

#[test]
fn a_domain_is_of_whoever_made_it_until_it_is_gone() {
    let of = |rest: &str| {
        parse(&packet(LANDLOCK_DOMAIN, &format!("audit(1795849253.233:2): domain=1f {rest}\0")))
    };
    let made = "status=allocated mode=enforcing pid=300 uid=77 exe=\"/usr/bin/bulkhead\" comm=";
    for comm in ["\"x\"", "78207569643D30", "\"uid=0\""] {
        let found = of(&format!("{made}{comm}"));
        assert_eq!(found, Some(Record::Domain { domain: 31, uid: 77 }));
    }
    assert_eq!(of("status=deallocated denials=3"), Some(Record::DomainGone { domain: 31 }));
    assert_eq!(of("status=odd uid=77"), None);
    assert_eq!(of("status=allocated pid=300"), None);
}

#[test]
fn no_bytes_make_the_parser_panic() {
    let texts = [
        "audit(1:2): domain=1 blockers=fs.read_file path=2F61 dev=\"x\" ino=1",
        "audit(1:2): domain=1 status=allocated mode=enforcing pid=3 uid=7 exe=\"/x\" comm=\"y\"",
        "audit(1:2): uid=7 arch=c000003e syscall=101 comm=\"x\"",
    ];
    // A plain congruential generator: the same bytes every time.
    let mut state = 0x2545_f491_u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize
    };
    for kind in [SECCOMP, LANDLOCK_ACCESS, LANDLOCK_DOMAIN, 1300] {
        for text in texts {
            for _ in 0..2000 {
                let mut bytes = packet(kind, text);
                for _ in 0..=next() % 4 {
                    let at = next() % bytes.len();
                    match next() % 3 {
                        0 => bytes[at] = next() as u8,
                        1 => bytes.truncate(at.max(1)),
                        _ => bytes.insert(at, next() as u8),
                    }
                }
                let mut domains = Domains::default();
                for denial in parse(&bytes).into_iter().flat_map(|it| domains.join(it)) {
                    assert!(matches!(denial.refusal, Refusal::Seccomp { .. }), "no owner is known");
                }
            }
        }
    }
}
