use serde_json::json;

use super::*;

fn id(text: &str) -> PluginId {
    text.parse().unwrap()
}

fn others(all: &[(&str, u64, u64)]) -> BTreeMap<PluginId, Demand> {
    all.iter()
        .map(|(name, memory, pids)| (id(name), Demand { memory: *memory, pids: *pids }))
        .collect()
}

const CAPACITY: Capacity = Capacity { memory: 100, pids: 50, descriptors: 24 };

#[test]
fn the_last_place_is_given_and_the_next_is_not() {
    let ask = |memory, pids| {
        admit(&id("c"), CAPACITY, &others(&[("a", 40, 10), ("b", 40, 10)]), Demand { memory, pids })
    };
    ask(20, 30).unwrap();
    let failure = ask(21, 1).unwrap_err();
    assert_eq!(failure.code, Code::ResourceExhausted);
    assert_eq!(
        failure.details,
        json!({"resource": "memory", "limit": 100, "used": 80, "asked": 21})
    );
    assert_eq!(ask(1, 31).unwrap_err().details["resource"], "pids");
}

#[test]
fn the_supervisors_descriptors_are_counted() {
    let small = Demand { memory: 1, pids: 1 };
    admit(&id("c"), CAPACITY, &others(&[("a", 1, 1), ("b", 1, 1)]), small).unwrap();
    let three = others(&[("a", 1, 1), ("b", 1, 1), ("d", 1, 1)]);
    let failure = admit(&id("c"), CAPACITY, &three, small).unwrap_err();
    assert_eq!(failure.details["resource"], "descriptors");
}

#[test]
fn sums_do_not_wrap() {
    let huge = others(&[("a", u64::MAX, 1), ("b", u64::MAX, 1)]);
    assert!(admit(&id("c"), CAPACITY, &huge, Demand { memory: u64::MAX, pids: 1 }).is_err());
}

#[test]
fn the_lowest_limit_above_counts() {
    let root = tempfile::tempdir().unwrap();
    let leaf = root.path().join("service/supervisor");
    std::fs::create_dir_all(&leaf).unwrap();
    assert_eq!(lowest(&leaf, "memory.max"), None);
    std::fs::write(leaf.join("memory.max"), "max\n").unwrap();
    std::fs::write(root.path().join("service/memory.max"), "5000\n").unwrap();
    std::fs::write(root.path().join("memory.max"), "9000\n").unwrap();
    assert_eq!(lowest(&leaf, "memory.max"), Some(5000));
}

#[test]
fn this_machine_has_some_of_each() {
    let measured = Capacity::measure(&Admission::default());
    assert!(measured.memory > 1 << 20 && measured.pids > 100 && measured.descriptors > 0);
    let configured = Admission { memory: Some(7), pids: Some(8), max_exposure: None };
    let said = Capacity::measure(&configured);
    assert_eq!((said.memory, said.pids), (7, 8));
}
