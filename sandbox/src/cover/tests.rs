use super::*;
use crate::policy::Mount;

const LAYERS: [Layer; 3] = [Layer::LandlockFiles, Layer::LandlockNetwork, Layer::LandlockScopes];

fn all_lacks(policy: &Policy, namespaced: bool, abi: u32) -> Vec<Lack> {
    let facts = policy.facts(namespaced, false, abi);
    LAYERS.iter().flat_map(|&layer| lacks(layer, policy, &facts)).collect()
}

fn uncovered(policy: &Policy, abi: u32) -> Vec<&'static str> {
    let lacks = all_lacks(policy, true, abi).into_iter();
    lacks.filter(|lack| lack.covered_by.is_none()).map(|lack| lack.what).collect()
}

#[test]
fn the_default_policy_is_covered_from_the_first_abi_on() {
    let policy = Policy::default();
    assert_eq!(uncovered(&policy, 0), ["reading, writing, making and executing files"]);
    for abi in 1..=10 {
        assert!(uncovered(&policy, abi).is_empty(), "ABI {abi}");
    }
}

#[test]
fn ports_need_a_kernel_that_knows_them() {
    let network = Network::Ports { connect: vec![443], bind: vec![] };
    let policy = Policy { network, ..Policy::default() };
    assert_eq!(uncovered(&policy, 3), ["TCP ports", "abstract sockets of others"]);
    assert_eq!(uncovered(&policy, 5), ["abstract sockets of others"]);
    assert!(uncovered(&policy, 6).is_empty());
}

#[test]
fn what_is_not_there_covers_nothing() {
    let words = ["namespace", "private", "read-only mounts"];
    for profile in Profile::ALL {
        let policy = Policy { profile, ..Policy::default() };
        for abi in 1..10 {
            let covers = |namespaced| -> Vec<&'static str> {
                let lacks = all_lacks(&policy, namespaced, abi);
                let covers = lacks.iter().filter_map(|lack| lack.covered_by);
                covers.filter(|cover| words.iter().any(|word| cover.contains(word))).collect()
            };
            // The control: with namespaces they do.
            assert!(!covers(true).is_empty(), "{profile}, ABI {abi}");
            assert_eq!(covers(false), [""; 0], "{profile}, ABI {abi}");
        }
    }
}

#[test]
fn where_places_are_shown_the_sockets_in_them_are_for_the_filter() {
    for profile in Profile::ALL {
        let mut policy = Policy { profile, ..Policy::default() };
        let by_path = |policy: &Policy| {
            let mut lacks = all_lacks(policy, true, 8).into_iter();
            lacks.find(|lack| lack.what == "sockets by path").unwrap().covered_by
        };
        policy.filesystem.mounts.push(Mount::read_write("/s/data", "/data"));
        assert_eq!(by_path(&policy), Some("the private root holds no socket of others"));
        policy.filesystem.show(Mount::read_only("/run", "/run"));
        assert_eq!(by_path(&policy), Some("seccomp refuses local sockets"));
        for abi in 1..=10 {
            assert!(uncovered(&policy, abi).is_empty(), "ABI {abi}");
        }
    }
}

#[test]
fn without_namespaces_the_sockets_of_others_are_for_the_filter() {
    for profile in Profile::ALL {
        let policy = Policy { profile, ..Policy::default() };
        for abi in 1..9 {
            let lacks = all_lacks(&policy, false, abi);
            let mut local = lacks.iter().filter(|lack| lack.what.contains("sockets"));
            assert!(local.all(|lack| lack.covered_by == Some("seccomp refuses local sockets")));
        }
    }
}
