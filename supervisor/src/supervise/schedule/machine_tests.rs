use proptest::prelude::*;

use super::*;
use crate::id::PluginId;

fn at(text: &str) -> Timestamp {
    format!("2026-11-{text}Z").parse().unwrap()
}

fn schedule(lines: &str) -> Schedule {
    toml::from_str(&format!("method = 'm'\n{lines}")).unwrap()
}

fn jitter(millis: u64) -> Jitter {
    Jitter::new([7; 16], &"a".parse::<PluginId>().unwrap(), "m", millis)
}

/// One of every minute that is up, with all before 12:00 dealt with.
fn minutely(lines: &str) -> Machine {
    let schedule = schedule(&format!("cron = '* * * * *'\n{lines}"));
    let mut machine = Machine::new(&schedule, jitter(0), at("28T12:00"));
    assert_eq!(machine.step(UP, at("28T12:00")), []);
    machine
}

const UP: Input = Input::Look { up: true };
const DOWN: Input = Input::Look { up: false };

fn start(due: &str) -> Effect {
    Effect::Start { due: Some(at(due)) }
}

fn missed(due: &str, count: u64) -> Effect {
    Effect::Note { due: at(due), count, why: Left::Missed }
}

fn skipped(due: &str) -> Effect {
    Effect::Note { due: at(due), count: 1, why: Left::Skipped }
}

#[test]
fn it_starts_when_it_is_due_and_once() {
    let mut machine = minutely("");
    assert_eq!(machine.next(at("28T12:00:00")).unwrap().start, at("28T12:01"));
    assert_eq!(machine.step(UP, at("28T12:00:59.999")), []);
    assert_eq!(machine.step(UP, at("28T12:01")), [start("28T12:01")]);
    assert_eq!(machine.step(UP, at("28T12:01")), []);
    assert_eq!(machine.step(Input::Ended, at("28T12:01:30")), []);
    assert_eq!(machine.step(UP, at("28T12:02:01")), [start("28T12:02")]);
}

#[test]
fn what_is_due_while_it_runs_is_skipped_or_waits_or_runs_too() {
    let mut skip = minutely("overlap = 'skip'");
    skip.step(UP, at("28T12:01"));
    assert_eq!(skip.step(UP, at("28T12:02")), [skipped("28T12:02")]);
    assert_eq!(skip.step(Input::Asked, at("28T12:02:01")), [Effect::Refuse]);
    assert_eq!(skip.step(Input::Ended, at("28T12:02:02")), []);
    assert_eq!(skip.step(Input::Asked, at("28T12:02:03")), [Effect::Start { due: None }]);

    let mut queue = minutely("overlap = 'queue'");
    queue.step(UP, at("28T12:01"));
    assert_eq!(queue.step(Input::Asked, at("28T12:01:10")), [Effect::Refuse]);
    assert_eq!(queue.step(UP, at("28T12:02")), []);
    // Only one waits. That others were skipped for it is told once it begins: told earlier, and the
    // supervisor dead before that, it would count as dealt with and be lost.
    assert_eq!(queue.step(UP, at("28T12:03")), []);
    assert_eq!(queue.step(UP, at("28T12:05")), []);
    let skipped_three = Effect::Note { due: at("28T12:05"), count: 3, why: Left::Skipped };
    let begun = [start("28T12:02"), skipped_three];
    assert_eq!(queue.step(Input::Ended, at("28T12:05:30")), begun);
    assert_eq!(queue.step(Input::Ended, at("28T12:05:40")), []);
    // The plugin went down while one waited: all of it was missed.
    queue.step(UP, at("28T12:06"));
    queue.step(UP, at("28T12:08"));
    queue.step(DOWN, at("28T12:08:10"));
    queue.step(Input::Ended, at("28T12:08:10"));
    assert_eq!(queue.step(UP, at("28T12:08:20")), [missed("28T12:07", 1), start("28T12:08")]);

    let mut allow = minutely("overlap = 'allow'");
    allow.step(UP, at("28T12:01"));
    assert_eq!(allow.step(UP, at("28T12:02")), [start("28T12:02")]);
    assert_eq!(allow.running(), 2);
}

#[test]
fn nothing_runs_while_the_plugin_is_down() {
    let mut machine = minutely("");
    assert_eq!(machine.step(DOWN, at("28T12:00:30")), []);
    assert_eq!(machine.next(at("28T12:00:30")), None);
    assert_eq!(machine.step(DOWN, at("28T12:10")), []);
    assert_eq!(machine.step(UP, at("28T12:10:30")), [missed("28T12:09", 9), start("28T12:10")]);
}

#[test]
fn what_is_late_is_missed_or_runs_once() {
    let nightly = |policy: &str| {
        let schedule = schedule(&format!("cron = '30 2 * * *'\nmissed = '{policy}'"));
        Machine::new(&schedule, jitter(0), at("20T02:30"))
    };
    assert_eq!(nightly("skip").step(UP, at("23T12:00")), [missed("23T02:30", 3)]);
    let mut once = nightly("once");
    assert_eq!(once.step(UP, at("23T12:00")), [missed("22T02:30", 2), start("23T02:30")]);
    assert_eq!(once.step(UP, at("23T12:01")), [], "that was all");
    assert_eq!(once.next(at("23T12:01")).unwrap().due, at("24T02:30"));
    // The edge of being on time.
    assert_eq!(nightly("skip").step(UP, at("21T02:31")), [start("21T02:30")]);
    assert_eq!(nightly("skip").step(UP, at("21T02:31:00.001")), [missed("21T02:30", 1)]);
    // Late, and the one before still runs.
    let mut busy = nightly("once");
    assert_eq!(busy.step(Input::Asked, at("20T12:00")), [Effect::Start { due: None }]);
    assert_eq!(busy.step(UP, at("21T12:00")), [skipped("21T02:30")]);
}

#[test]
fn very_many_that_were_missed_are_counted_no_further() {
    let mut machine = minutely("missed = 'once'");
    machine.step(DOWN, at("28T12:00"));
    let year = at("28T12:00:30") + SignedDuration::from_hours(365 * 24);
    let effects = machine.step(UP, year);
    let due: Timestamp = "2027-11-28T12:00Z".parse().unwrap();
    let before = due - SignedDuration::from_mins(1);
    let noted = Effect::Note { due: before, count: MOST_COUNTED - 1, why: Left::Missed };
    assert_eq!(effects, [noted, Effect::Start { due: Some(due) }]);
}

#[test]
fn what_waits_when_the_plugin_goes_down_was_missed() {
    for (policy, then) in [("skip", missed("28T12:02", 1)), ("once", start("28T12:02"))] {
        let lines = format!("overlap = 'queue'\nmissed = '{policy}'");
        let schedule = schedule(&format!("cron = '1,2 12 * * *'\n{lines}"));
        let mut machine = Machine::new(&schedule, jitter(0), at("28T12:00"));
        machine.step(UP, at("28T12:01"));
        assert_eq!(machine.step(UP, at("28T12:02")), []);
        assert_eq!(machine.step(DOWN, at("28T12:02:10")), []);
        assert_eq!(machine.step(Input::Ended, at("28T12:02:11")), [], "{policy}: it is down");
        assert_eq!(machine.step(UP, at("28T13:00")), [then]);
    }
}

#[test]
fn a_clock_that_is_put_back_repeats_nothing() {
    let mut machine = minutely("");
    assert_eq!(machine.step(UP, at("28T12:01")), [start("28T12:01")]);
    machine.step(Input::Ended, at("28T12:01"));
    for back in ["28T12:00:30", "28T09:30", "28T12:01"] {
        assert_eq!(machine.step(UP, at(back)), [], "at {back}");
    }
    assert_eq!(machine.next(at("28T09:30")).unwrap().due, at("28T12:02"));
    assert_eq!(machine.step(UP, at("28T12:02")), [start("28T12:02")]);
}

#[test]
fn a_clock_that_was_far_ahead_is_not_waited_for() {
    let mut machine = minutely("");
    machine.step(UP, at("28T12:01"));
    machine.step(Input::Ended, at("28T12:01"));
    assert_eq!(machine.step(UP, at("28T08:00:30")), []);
    assert_eq!(machine.next(at("28T08:00:30")).unwrap().due, at("28T08:01"));
    assert_eq!(machine.step(UP, at("28T08:00:40")), []);
    assert_eq!(machine.step(UP, at("28T08:01")), [start("28T08:01")]);
}

/// A machine without a clock of its own begins in 1970 until it hears from the network.
#[test]
fn a_clock_that_was_wrong_for_a_moment_repeats_nothing_either() {
    let schedule = schedule("cron = '30 2 * * *'\nmissed = 'once'");
    let mut machine = Machine::new(&schedule, jitter(0), at("28T02:30"));
    let wrong: Timestamp = "1970-01-01T00:00:10Z".parse().unwrap();
    assert_eq!(machine.step(UP, wrong), []);
    assert_eq!(machine.step(UP, at("28T12:00")), []);
    assert_eq!(machine.next(at("28T12:00")).unwrap().due, at("29T02:30"));
}

#[test]
fn jitter_delays_the_start_and_leaves_what_is_due() {
    let schedule = schedule("cron = '30 2 * * *'\njitter = '10m'");
    let mut machine = Machine::new(&schedule, jitter(600_000), at("20T02:30"));
    machine.step(UP, at("20T12:00"));
    let next = machine.next(at("20T12:00")).unwrap();
    assert_eq!(next.due, at("21T02:30"));
    assert!(next.start > next.due && next.start < at("21T02:40"), "{next:?}");
    assert_eq!(machine.step(UP, next.start - SignedDuration::from_millis(1)), []);
    assert_eq!(machine.step(UP, next.start), [start("21T02:30")]);
}

proptest! {
    /// However the clock and the plugin jump about: nothing runs twice for the same due time, at most
    /// as many at once as the policy has, and what is dealt with is told in its order.
    #[test]
    fn no_due_time_runs_twice(
        policy in prop::sample::select(vec!["skip", "queue", "allow"]),
        missed in prop::sample::select(vec!["skip", "once"]),
        delay in prop::sample::select(vec![0, 30_000, 600_000]),
        steps in prop::collection::vec((-10_000i64..20_000, 0..6u8), 1..60),
    ) {
        let schedule = schedule(
            &format!("cron = '*/7 * * * *'\noverlap = '{policy}'\nmissed = '{missed}'"));
        let begin = at("28T12:00");
        let mut machine = Machine::new(&schedule, jitter(delay), begin);
        let (mut now, mut running, mut runs, mut told) = (begin, 0usize, Vec::new(), begin);
        for (seconds, what) in steps {
            // Backwards by no more than a clock is put back.
            now = (now + SignedDuration::from_secs(seconds)).max(told - CORRECTION);
            let input = match what {
                0 => DOWN,
                1 | 2 if running > 0 => {
                    running -= 1;
                    Input::Ended
                }
                _ => UP,
            };
            for effect in machine.step(input, now) {
                match effect {
                    Effect::Start { due } => {
                        running += 1;
                        told = told.max(due.unwrap());
                        runs.push(due.unwrap());
                    }
                    Effect::Note { due, count, .. } => {
                        // It may be told later than it was dealt with, by a clock that was put back.
                        prop_assert!(count > 0 && due <= now.max(told));
                        told = told.max(due);
                    }
                    Effect::Refuse => prop_assert!(false, "nobody asked"),
                }
            }
            // What is skipped for one that waits is dealt with, and told later.
            told = told.max(machine.accounted);
            prop_assert_eq!(machine.running(), running);
            prop_assert!(policy == "allow" || running <= 1);
            if let Some(next) = machine.next(now).filter(|_| input == UP) {
                prop_assert!(next.start >= next.due);
                prop_assert!(next.start > now, "it was not dealt with: {:?} at {}", next, now);
            }
        }
        let mut sorted = runs.clone();
        sorted.sort();
        sorted.dedup();
        prop_assert_eq!(sorted, runs, "twice, or out of order");
    }
}
