use super::*;
use crate::supervise::usage::{Bounds, LimitEvents, Usage};

const INTERVAL: Duration = Duration::from_secs(10);

struct Process {
    start: Look,
    alarms: Alarms,
}

fn process() -> Process {
    let start = Look::at_start(Instant::now());
    Process { start, alarms: Alarms::new(&start) }
}

impl Process {
    fn at(&self, secs: u64) -> Look {
        let bounds = Bounds { memory_bytes: Some(1000), pids: Some(10), cpu_percent: Some(50) };
        Look { at: self.start.at + Duration::from_secs(secs), bounds, ..self.start }
    }

    fn with_memory(&self, working_set: u64) -> Look {
        let memory = Some(working_set);
        let usage =
            Usage { memory_bytes: memory, memory_working_set_bytes: memory, ..Usage::default() };
        Look { usage, ..self.at(1) }
    }

    fn with_refusals(&self, secs: u64, refused: u64) -> Look {
        let limit_events = LimitEvents { pids_refused: Some(refused), ..LimitEvents::default() };
        let usage = Usage { pids: Some(5), ..Usage::default() };
        Look { usage, limit_events, ..self.at(secs) }
    }
}

#[test]
fn what_goes_up_and_down_around_a_limit_is_told_once() {
    let mut it = process();
    let mut told = Vec::new();
    for used in [100, 899, 900, 950, 880, 990, 800, 901, 799, 910] {
        let look = it.with_memory(used);
        if let [warning] = &it.alarms.look(&look, INTERVAL)[..] {
            assert_eq!((warning.resource, warning.limit, warning.used), ("memory", 1000, used));
            assert_eq!(warning.body()["code"], NEAR);
            told.push(used);
        }
    }
    assert_eq!(told, [900, 910]);
}

#[test]
fn what_cannot_be_observed_or_has_no_limit_is_not_told() {
    let mut it = process();
    let bounds = Bounds::default();
    let look = Look { bounds, ..it.with_memory(u64::MAX) };
    assert_eq!(it.alarms.sample(&look, INTERVAL), []);
    let usage = Usage::default();
    let look = Look { usage, ..it.with_memory(0) };
    assert_eq!(it.alarms.sample(&look, INTERVAL), []);
}

#[test]
fn refusals_are_told_at_once_and_then_gathered() {
    let mut it = process();
    let counts: Vec<Option<u64>> = [(1, 0), (2, 3), (3, 9), (11, 9), (12, 9), (30, 9), (31, 10)]
        .into_iter()
        .map(|(secs, refused)| {
            let look = it.with_refusals(secs, refused);
            let warnings = it.alarms.look(&look, INTERVAL);
            assert!(warnings.iter().all(|warning| warning.body()["code"] == "RESOURCE_EXHAUSTED"));
            warnings.first().and_then(|warning| warning.count)
        })
        .collect();
    assert_eq!(counts, [None, Some(3), None, None, Some(6), None, Some(1)]);
}

#[test]
fn what_was_refused_before_the_first_look_is_not_told() {
    let it = process();
    let first = it.with_refusals(1, 7);
    let mut alarms = Alarms::new(&first);
    assert_eq!(alarms.look(&first, INTERVAL), []);
    let next = it.with_refusals(2, 8);
    let [warning] = &alarms.look(&next, INTERVAL)[..] else { panic!("one is told") };
    let expected = json!({ "resource": "pids", "limit": 10, "used": 5 });
    let body = warning.body();
    assert_eq!((&body["details"], &body["count"]), (&expected, &json!(1)));
    // What the kernel counts has the compartment's init in it.
    let line = json!("[limits] pids = 18");
    assert_eq!((&body["layer"], &body["remedy"]), (&json!("pids"), &line));
}

#[test]
fn a_lack_of_memory_is_told_of_those_who_live_on() {
    let mut it = process();
    let with_oom = |it: &Process, secs: u64, oom: u64| {
        let limit_events = LimitEvents { oom: Some(oom), ..LimitEvents::default() };
        let usage = Usage { memory_bytes: Some(400), ..Usage::default() };
        Look { usage, limit_events, ..it.at(secs) }
    };
    let told: Vec<usize> = [(0, 0), (10, 2), (20, 2), (30, 2)]
        .into_iter()
        .map(|(secs, oom)| {
            let look = with_oom(&it, secs, oom);
            it.alarms.sample(&look, INTERVAL).len()
        })
        .collect();
    assert_eq!(told, [0, 0, 1, 0]);
}

#[test]
fn who_is_held_back_in_half_of_the_periods_is_told_once() {
    let mut it = process();
    let mut told = Vec::new();
    // Of the periods since the last: 2 of 100, 50 of 100, 90 of 100, 30 of 100, 60 of 100, 10 of 100,
    // 50 of 100.
    let throttled = [2, 52, 142, 172, 232, 242, 292];
    for (index, throttled) in throttled.into_iter().enumerate() {
        let number = index as u64 + 1;
        let limit_events = LimitEvents {
            periods: Some(number * 100),
            throttled_periods: Some(throttled),
            ..LimitEvents::default()
        };
        let usage = Usage { cpu_usec: Some(number * 4_900_000), ..Usage::default() };
        let look = Look { usage, limit_events, ..it.at(number * 10) };
        if let [warning] = &it.alarms.sample(&look, INTERVAL)[..] {
            assert_eq!((warning.resource, warning.limit, warning.used), ("cpu", 50, 49));
            told.push(number);
        }
    }
    assert_eq!(told, [2, 7]);
}

#[test]
fn a_few_periods_are_gathered_before_they_are_judged() {
    let mut it = process();
    let told: Vec<usize> = (1..=20)
        .map(|number| {
            let counted = Some(number);
            let limit_events = LimitEvents {
                periods: counted,
                throttled_periods: counted,
                ..LimitEvents::default()
            };
            let look = Look { limit_events, ..it.at(number) };
            it.alarms.sample(&look, INTERVAL).len()
        })
        .collect();
    assert_eq!(told.iter().sum::<usize>(), 1);
    assert_eq!(told[9], 1);
}

#[test]
fn storage_that_fills_up_is_told_at_each_step_and_by_the_next_process_not_again() {
    let fill = |pressure| Fill { pressure, resource: "storage", limit: 4096, used: 4000 };
    let mut it = process();
    let codes: Vec<Value> = [
        Pressure::Uneasy,
        Pressure::Near,
        Pressure::Near,
        Pressure::Full,
        Pressure::Near,
        Pressure::Uneasy,
        Pressure::Full,
    ]
    .into_iter()
    .filter_map(|pressure| it.alarms.kept(&fill(pressure)))
    .map(|warning| {
        let body = warning.body();
        let remedy = "`bulkhead quota-init --limit 8K`, as root";
        assert_eq!(body["remedy"] == remedy, body["code"] != NEAR, "{body}");
        body["code"].clone()
    })
    .collect();
    assert_eq!(codes, [NEAR, "RESOURCE_EXHAUSTED"]);
    let mut next = it.alarms.next(&it.start);
    assert_eq!(next.kept(&fill(Pressure::Full)), None);
    assert_eq!(next.kept(&fill(Pressure::Low)), None);
    assert!(next.kept(&fill(Pressure::Near)).is_some());
}
