use super::*;

fn hello() -> Hello {
    Hello::new("appointments", Version::new(1, 2, 3)).unwrap()
}

#[test]
fn it_comes_back() {
    let hello = Hello { features: Features(0xa5), ..hello() };
    assert_eq!(Hello::decode(&hello.encode().unwrap()), Ok(hello));
}

#[test]
fn the_longest_one_fits_its_bound() {
    let version = format!("1.0.0-{}", "x".repeat(MAX_VERSION - 6));
    let hello = Hello::new("n".repeat(MAX_NAME), Version::parse(&version).unwrap()).unwrap();
    assert_eq!(hello.encode().unwrap().len(), MAX_HELLO);
    assert_eq!(Hello::decode(&hello.encode().unwrap()), Ok(hello));
}

#[test]
fn names_and_versions_that_do_not_fit_are_refused() {
    let version = Version::new(1, 0, 0);
    assert_eq!(Hello::new("", version.clone()), Err(HelloError::NameLength { length: 0 }));
    assert_eq!(
        Hello::new("n".repeat(129), version.clone()),
        Err(HelloError::NameLength { length: 129 })
    );
    assert_eq!(
        Hello::new("a\nb", version),
        Err(HelloError::NameControl { name: "a\nb".to_owned() })
    );
    let long = Version::parse(&format!("1.0.0-{}", "x".repeat(59))).unwrap();
    assert!(matches!(Hello::new("a", long), Err(HelloError::VersionLength { length: 65, .. })));
    let mut odd = hello();
    odd.protocol = Version::new(1 << 32, 0, 0);
    assert!(matches!(odd.encode(), Err(HelloError::Protocol { .. })));
}

#[test]
fn every_truncation_names_the_field_that_is_cut() {
    let bytes = hello().encode().unwrap();
    for length in 0..bytes.len() {
        match Hello::decode(&bytes[..length]) {
            Err(Violation::HelloTooShort { length: found, .. }) => assert_eq!(found, length),
            other => panic!("{length} bytes gave {other:?}"),
        }
    }
    assert_eq!(
        Hello::decode(&bytes[..20]),
        Err(Violation::HelloTooShort { field: "features", length: 20 })
    );
}

#[test]
fn something_else_in_its_place_is_told_apart() {
    let mut bytes = hello().encode().unwrap();
    bytes.push(0);
    assert_eq!(Hello::decode(&bytes), Err(Violation::HelloTrailing { trailing: 1 }));
    assert_eq!(Hello::decode(b"\x03 not a hello"), Err(Violation::HelloMissing { first: 3 }));
    let mut bytes = hello().encode().unwrap();
    bytes[25] = 0xff;
    assert!(matches!(Hello::decode(&bytes), Err(Violation::HelloMalformed { field: "name", .. })));
    let mut bytes = hello().encode().unwrap();
    *bytes.last_mut().unwrap() = b'x';
    assert!(matches!(
        Hello::decode(&bytes),
        Err(Violation::HelloMalformed { field: "version", .. })
    ));
}

#[test]
fn the_lower_version_and_the_common_features_win() {
    let ours = Hello { protocol: Version::new(1, 4, 0), features: Features(0b0110), ..hello() };
    let theirs = Hello {
        protocol: Version::new(1, 2, 9),
        features: Features(0b1100),
        name: "bulkhead".to_owned(),
        version: Version::new(0, 1, 0),
    };
    let agreed = ours.negotiate(&theirs).unwrap();
    assert_eq!(agreed.protocol, Version::new(1, 2, 9));
    assert_eq!(agreed.features, Features(0b0100));
    assert_eq!((agreed.peer_name.as_str(), agreed.peer_version), ("bulkhead", theirs.version));
    assert!(agreed.features.contains(Features(0b0100)));
    assert!(!agreed.features.contains(Features(0b0110)));
}

#[test]
fn another_major_version_has_nothing_in_common() {
    let theirs = Hello { protocol: Version::new(99, 0, 0), ..hello() };
    assert_eq!(hello().negotiate(&theirs), None);
}
