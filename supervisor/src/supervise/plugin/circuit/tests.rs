use proptest::prelude::*;

use super::*;

const POLICY: CircuitPolicy = CircuitPolicy { failures: 3, cool_down: Duration::from_secs(10) };
const LIMIT: Duration = Duration::from_secs(2);

/// Admits a call and settles it at once.
fn call(circuit: &mut Circuit, verdict: Verdict, now: Monotonic) -> Option<Change> {
    let ticket = circuit.admit(LIMIT, now).expect("it is admitted");
    circuit.settle(&ticket, verdict, now)
}

fn opened(now: Monotonic) -> Circuit {
    let mut circuit = Circuit::new(POLICY);
    for change in [None, None, Some(Change::Opened)] {
        assert_eq!(call(&mut circuit, Verdict::Failed, now), change);
    }
    circuit
}

#[test]
fn failures_in_a_row_open_it_and_an_answer_begins_the_row_anew() {
    let now = Monotonic::now();
    let mut circuit = Circuit::new(POLICY);
    for verdict in [Verdict::Failed, Verdict::Failed, Verdict::Answered, Verdict::Failed] {
        assert_eq!(call(&mut circuit, verdict, now), None);
    }
    assert_eq!((circuit.name(), circuit.failures()), ("closed", Some(1)));
    // What says nothing neither adds to the row nor ends it.
    assert_eq!(call(&mut circuit, Verdict::Nothing, now), None);
    assert_eq!(call(&mut circuit, Verdict::Failed, now), None);
    assert_eq!(call(&mut circuit, Verdict::Failed, now), Some(Change::Opened));
    assert_eq!((circuit.name(), circuit.failures()), ("open", None));
}

#[test]
fn while_it_is_open_none_is_admitted_and_each_is_told_for_how_long() {
    let now = Monotonic::now();
    let mut circuit = opened(now);
    let later = now.plus(Duration::from_secs(4));
    assert_eq!(circuit.admit(LIMIT, later).unwrap_err(), Duration::from_secs(6));
    assert_eq!(circuit.closed_to_calls(later), Some(Duration::from_secs(6)));
}

#[test]
fn after_the_cool_down_one_tries_and_its_answer_closes_it() {
    let now = Monotonic::now();
    let mut circuit = opened(now);
    let later = now.plus(POLICY.cool_down);
    let ticket = circuit.admit(LIMIT, later).unwrap();
    assert_eq!(circuit.name(), "half-open");
    // Only one: the others wait for what becomes of it.
    assert_eq!(circuit.admit(LIMIT, later).unwrap_err(), LIMIT);
    assert_eq!(circuit.settle(&ticket, Verdict::Answered, later), Some(Change::Closed));
    assert_eq!((circuit.name(), circuit.failures()), ("closed", Some(0)));
    assert_eq!(circuit.closed_to_calls(later), None);
}

#[test]
fn a_try_that_fails_opens_it_again_and_is_no_news() {
    let now = Monotonic::now();
    let mut circuit = opened(now);
    let later = now.plus(POLICY.cool_down);
    assert_eq!(call(&mut circuit, Verdict::Failed, later), None);
    assert_eq!(circuit.admit(LIMIT, later).unwrap_err(), POLICY.cool_down);
}

#[test]
fn a_try_that_says_nothing_or_never_ends_leaves_the_try_to_another() {
    let now = Monotonic::now();
    let mut circuit = opened(now);
    let mut later = now.plus(POLICY.cool_down);
    assert_eq!(call(&mut circuit, Verdict::Nothing, later), None);
    let lost = circuit.admit(LIMIT, later).unwrap();
    later = later.plus(LIMIT);
    let second = circuit.admit(LIMIT, later).unwrap();
    assert_eq!(circuit.settle(&lost, Verdict::Answered, later), None, "it was given up");
    assert_eq!(circuit.settle(&second, Verdict::Answered, later), Some(Change::Closed));
}

#[test]
fn what_was_admitted_before_a_change_counts_no_more() {
    let now = Monotonic::now();
    let mut circuit = Circuit::new(POLICY);
    let early: Vec<Ticket> = (0..5).map(|_| circuit.admit(LIMIT, now).unwrap()).collect();
    let changes: Vec<_> = early.iter().map(|it| circuit.settle(it, Verdict::Failed, now)).collect();
    assert_eq!(changes, [None, None, Some(Change::Opened), None, None]);
    let later = now.plus(POLICY.cool_down);
    assert_eq!(call(&mut circuit, Verdict::Answered, later), Some(Change::Closed));
    for ticket in &early {
        assert_eq!(circuit.settle(ticket, Verdict::Failed, later), None);
    }
    assert_eq!(circuit.failures(), Some(0));
}

#[test]
fn a_start_on_request_closes_it() {
    let now = Monotonic::now();
    let mut circuit = opened(now);
    assert_eq!(circuit.close(), Some(Change::Closed));
    assert_eq!(circuit.close(), None);
    assert_eq!(call(&mut circuit, Verdict::Answered, now), None);
}

#[derive(Clone, Debug)]
enum Act {
    Admit(u64),
    Settle(usize, Verdict),
    Pass(u64),
    Close,
}

fn act() -> impl Strategy<Value = Act> {
    let verdict =
        prop_oneof![Just(Verdict::Answered), Just(Verdict::Failed), Just(Verdict::Nothing)];
    prop_oneof![
        4 => (0u64..3000).prop_map(Act::Admit),
        6 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Act::Settle(which, verdict)),
        2 => (0u64..15_000).prop_map(Act::Pass),
        1 => Just(Act::Close),
    ]
}

proptest! {
    /// Whatever happens: it tells of an opening and of a closing in turn, never keeps callers out for
    /// longer than the cool-down or the try's own limit, and admits one try at a time.
    #[test]
    fn it_opens_and_closes_in_turn_and_is_never_shut_for_ever(acts in prop::collection::vec(act(), 1..200)) {
        let mut circuit = Circuit::new(POLICY);
        let mut now = Monotonic::now();
        let mut out: Vec<Ticket> = Vec::new();
        let mut open = false;
        for act in acts {
            let change = match act {
                Act::Admit(millis) => {
                    let limit = Duration::from_millis(millis);
                    match circuit.admit(limit, now) {
                        Ok(ticket) => {
                            if open {
                                prop_assert_eq!(circuit.name(), "half-open");
                                let another = circuit.admit(limit, now);
                                prop_assert!(another.is_err() || millis == 0);
                                out.extend(another);
                            }
                            out.push(ticket);
                        }
                        Err(wait) => {
                            prop_assert!(open && wait <= POLICY.cool_down.max(Duration::from_secs(3)));
                        }
                    }
                    None
                }
                Act::Settle(which, verdict) => {
                    if out.is_empty() {
                        continue;
                    }
                    let ticket = out.swap_remove(which % out.len());
                    circuit.settle(&ticket, verdict, now)
                }
                Act::Pass(millis) => {
                    now = now.plus(Duration::from_millis(millis));
                    None
                }
                Act::Close => circuit.close(),
            };
            match change {
                Some(Change::Opened) => {
                    prop_assert!(!open);
                    open = true;
                }
                Some(Change::Closed) => {
                    prop_assert!(open);
                    open = false;
                }
                None => {}
            }
            prop_assert_eq!(open, circuit.name() != "closed");
        }
        now = now.plus(POLICY.cool_down.max(Duration::from_secs(3)));
        prop_assert!(circuit.admit(LIMIT, now).is_ok());
    }
}
