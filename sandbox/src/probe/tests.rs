use super::*;

#[test]
fn every_layer_is_told_once_and_what_lacks_has_a_remedy() {
    let machine = probe();
    let mut layers: Vec<Layer> = machine.layers.iter().map(|found| found.layer).collect();
    let count = layers.len();
    layers.dedup();
    assert_eq!(layers.len(), count);
    assert_eq!(count, 25);
    for found in &machine.layers {
        assert!(!found.detail.is_empty(), "{}", found.layer);
        if found.state == State::Missing {
            assert!(found.remedy.is_some(), "{} has no remedy", found.layer);
        }
    }
    let text = serde_json::to_string(&machine).unwrap();
    assert_eq!(serde_json::from_str::<Machine>(&text).unwrap(), machine);
}

#[test]
fn two_probes_agree() {
    // The cgroup's own directory may differ: it is made for each.
    let told = |machine: Machine| -> Vec<_> {
        machine.layers.into_iter().map(|found| (found.layer, found.state)).collect()
    };
    assert_eq!(told(probe()), told(probe()));
}
