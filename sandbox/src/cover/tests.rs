use super::*;

const LAYERS: [Layer; 3] = [Layer::LandlockFiles, Layer::LandlockNetwork, Layer::LandlockScopes];

fn uncovered(policy: &Policy, abi: u32) -> Vec<&'static str> {
    LAYERS
        .iter()
        .flat_map(|&layer| lacks(layer, policy, abi))
        .filter(|lack| lack.covered_by.is_none())
        .map(|lack| lack.what)
        .collect()
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
