use super::*;

/// A status as it is when everything holds.
fn confined() -> ProcessStatus {
    let uid = geteuid().as_raw();
    ProcessStatus {
        uids: [uid; 4],
        no_new_privs: true,
        seccomp: 2,
        threads: 1,
        ..ProcessStatus::default()
    }
}

fn enforced(found: &Enforcement, layer: Layer) -> bool {
    found.layer(layer).unwrap().enforced
}

#[test]
fn a_layer_counts_by_what_was_read_back() {
    let full = || Ok(LandlockStatus::Full);
    let found = measure(Some(&confined()), full(), 3, Ok(()));
    for layer in [Layer::Groups, Layer::Capabilities, Layer::NoNewPrivs, Layer::Seccomp] {
        assert!(enforced(&found, layer), "{layer}");
    }
    // The kernel accepted the filter, and the process has none.
    let unfiltered = ProcessStatus { seccomp: 0, ..confined() };
    assert!(!enforced(&measure(Some(&unfiltered), full(), 3, Ok(())), Layer::Seccomp));
    let privileged = ProcessStatus { capabilities: [0, 1, 1, 0, 0], ..confined() };
    assert!(!enforced(&measure(Some(&privileged), full(), 3, Ok(())), Layer::Capabilities));
    let grouped = ProcessStatus { groups: vec![u32::MAX], ..confined() };
    assert!(!enforced(&measure(Some(&grouped), full(), 3, Ok(())), Layer::Groups));
    if support::landlock_abi() > 0 {
        assert!(enforced(&found, Layer::LandlockFiles));
        let failed = measure(Some(&confined()), Err(Errno::EPROTO), 3, Ok(()));
        assert!(!enforced(&failed, Layer::LandlockFiles));
    }
    assert!(measure(None, full(), 3, Ok(())).layers.iter().any(|layer| !layer.enforced));
}

#[test]
fn a_thread_that_is_older_leaves_no_layer_in_force() {
    let threaded = ProcessStatus { threads: 2, ..confined() };
    let found = measure(Some(&threaded), Ok(LandlockStatus::Full), 3, Ok(()));
    assert!(found.layers.iter().all(|layer| !layer.enforced), "{found:?}");
    assert_eq!(found.missing().count(), found.layers.len());
}
