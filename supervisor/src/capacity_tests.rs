use serde_json::json;

use super::*;

const CAPACITY: Capacity = Capacity { memory: 100, pids: 50 };

/// Asks for a place beside two others.
fn ask(other: Demand, asked: Demand) -> Result<(), Failure> {
    CAPACITY.check(&"c".parse().unwrap(), [other; 2].into_iter(), asked)
}

#[test]
fn the_last_place_is_given_and_the_next_is_not() {
    let ask = |memory, pids| ask(Demand { memory: 40, pids: 10 }, Demand { memory, pids });
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
fn sums_do_not_wrap() {
    let huge = Demand { memory: u64::MAX, pids: 1 };
    assert!(ask(huge, huge).is_err());
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
    assert!(measured.memory > 1 << 20 && measured.pids > 100);
    let configured = Admission { memory: Some(7), pids: Some(8), max_exposure: None };
    let said = Capacity::measure(&configured);
    assert_eq!((said.memory, said.pids), (7, 8));
}
