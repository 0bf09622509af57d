use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_ladder_is_climbed_in_order() {
    let start = Monotonic::now();
    let mut stop = Stopping::default();
    assert_eq!((stop.deadline(), stop.due(start), stop.is_armed()), (None, None, false));
    stop.arm(start, SECOND, 3 * SECOND);
    assert!(stop.is_armed());
    assert_eq!(stop.due(start), None);
    let term = start.plus(SECOND);
    assert_eq!(stop.deadline(), Some(term));
    assert_eq!(stop.due(term), Some(Due::Sigterm));
    stop.record(StageName::Sigterm, term);
    assert_eq!(stop.due(term), None);
    let kill = start.plus(3 * SECOND);
    assert_eq!(stop.deadline(), Some(kill));
    assert_eq!(stop.due(kill), Some(Due::Sigkill));
    stop.record(StageName::Sigkill, kill);
    assert_eq!(stop.due(kill), None);
    assert_eq!(stop.killed_at(), Some(kill));
    stop.record(StageName::Exited, kill);
    stop.record(StageName::Sigkill, kill.plus(SECOND));
    let names: Vec<_> = stop.into_stages().iter().map(|stage| stage.name).collect();
    assert_eq!(names, [StageName::Sigterm, StageName::Sigkill, StageName::Exited]);
}

#[test]
fn a_plugin_that_ended_gets_no_sigterm_but_its_rest_is_killed() {
    let start = Monotonic::now();
    let mut stop = Stopping::default();
    stop.record(StageName::Exited, start);
    assert!(stop.is_armed() && stop.has_exited());
    stop.arm(start, Duration::ZERO, SECOND);
    assert_eq!(stop.due(start), None);
    assert_eq!(stop.due(start.plus(SECOND)), Some(Due::Sigkill));
}

#[test]
fn what_is_still_there_is_killed_again_and_again() {
    let start = Monotonic::now();
    let mut stop = Stopping::default();
    stop.record(StageName::Exited, start);
    stop.record(StageName::Sigkill, start);
    for times in 1..4 {
        let again = start.plus(KILL_AGAIN * times);
        assert_eq!(
            (stop.deadline(), stop.due(start.plus(KILL_AGAIN * (times - 1)))),
            (Some(again), None)
        );
        assert_eq!(stop.due(again), Some(Due::Sigkill));
        stop.record(StageName::Sigkill, again);
    }
    assert_eq!(stop.killed_at(), Some(start));
    assert_eq!(stop.into_stages().len(), 2, "each stage is told once");
}

#[test]
fn a_late_turn_kills_without_a_sigterm_before() {
    let start = Monotonic::now();
    let mut stop = Stopping::default();
    stop.arm(start, SECOND, 2 * SECOND);
    assert_eq!(stop.due(start.plus(5 * SECOND)), Some(Due::Sigkill));
}

#[test]
fn no_deadline_is_so_far_away_that_it_is_none() {
    let start = Monotonic::now();
    let mut stop = Stopping::default();
    stop.arm(start, Duration::MAX, Duration::MAX);
    let latest = start.plus(LONGEST_STOP);
    assert_eq!(stop.due(latest), Some(Due::Sigkill));
    assert!(stop.is_over_by(latest) && !stop.is_over_by(start.plus(SECOND)));
    stop.arm(start, Duration::ZERO, SECOND);
    assert!(stop.is_over_by(start.plus(SECOND)));
}

proptest! {
    #[test]
    fn no_request_puts_a_deadline_off(
        requests in prop::collection::vec((0u64..50, 0u64..10_000, 0u64..10_000), 1..20)
    ) {
        let start = Monotonic::now();
        let mut now = start;
        let mut stop = Stopping::default();
        let mut promised = (None::<Monotonic>, None::<Monotonic>);
        for (pause, term, kill) in requests {
            now = now.plus(Duration::from_millis(pause));
            stop.arm(now, Duration::from_millis(term), Duration::from_millis(kill));
            let asked_kill = now.plus(Duration::from_millis(kill));
            prop_assert!(stop.kill_at.unwrap() <= asked_kill);
            prop_assert!(stop.term_at.unwrap() <= now.plus(Duration::from_millis(term)));
            prop_assert!(stop.term_at <= stop.kill_at);
            if let (Some(term), Some(kill)) = promised {
                prop_assert!(stop.term_at.unwrap() <= term);
                prop_assert!(stop.kill_at.unwrap() <= kill);
            }
            promised = (stop.term_at, stop.kill_at);
        }
        // Whatever was asked, at the kill deadline everything is due.
        prop_assert_eq!(stop.due(stop.kill_at.unwrap()), Some(Due::Sigkill));
    }
}
