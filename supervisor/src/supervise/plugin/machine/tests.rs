use proptest::prelude::*;

use super::*;

const POLICY: RestartPolicy = RestartPolicy {
    when: RestartWhen::OnFailure,
    backoff: Duration::from_millis(100),
    backoff_max: Duration::from_millis(300),
    max_failures: 4,
    window: Duration::from_secs(10),
    cool_down: Duration::from_secs(5),
};

fn enabled(now: Monotonic) -> Machine {
    let mut machine = Machine::new(POLICY, 7);
    machine.step(Input::Enable, now);
    machine.step(Input::Started, now);
    assert_eq!(machine.state(), State::Enabled);
    machine
}

fn emitted(effects: &[Effect]) -> Vec<Notice> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Emit(notice) => Some(*notice),
            _ => None,
        })
        .collect()
}

#[test]
fn a_life_without_trouble_emits_the_events_of_the_mission_in_order() {
    let now = Monotonic::now();
    let mut machine = Machine::new(POLICY, 7);
    let mut notices = Vec::new();
    for input in [Input::Enable, Input::Started, Input::Disable, Input::Stopped] {
        notices.extend(emitted(&machine.step(input, now)));
    }
    assert_eq!(notices, [Notice::Enabling, Notice::Enabled, Notice::Disabling, Notice::Disabled]);
    assert_eq!(machine.state(), State::Disabled);
}

#[test]
fn pauses_double_up_to_the_most_and_then_the_circuit_opens() {
    let mut now = Monotonic::now();
    let mut machine = enabled(now);
    for pause in [100, 200, 300] {
        machine.step(Input::Died { clean: false }, now);
        let State::Restarting { at } = machine.state() else { panic!("{:?}", machine.state()) };
        let (drawn, longest) = (now.until(at), Duration::from_millis(pause));
        assert!(drawn <= longest && drawn >= longest * 4 / 5, "{drawn:?} of {longest:?}");
        assert_eq!(machine.step(Input::Timer, now), [Effect::Arm(at)], "too early");
        now = at;
        assert_eq!(machine.step(Input::Timer, now), [Effect::Start(Origin::Restart)]);
        assert_eq!(emitted(&machine.step(Input::Started, now)), [Notice::Recovered]);
    }
    let effects = machine.step(Input::Died { clean: false }, now);
    assert_eq!(emitted(&effects), [Notice::Error, Notice::Tripped]);
    now = now.plus(POLICY.cool_down);
    assert_eq!(machine.step(Input::Timer, now), [Effect::Start(Origin::HalfOpen)]);
    let effects = machine.step(Input::StartFailed, now);
    assert_eq!(emitted(&effects), [Notice::Error, Notice::Tripped], "one try when half open");
    now = now.plus(POLICY.cool_down);
    machine.step(Input::Timer, now);
    assert_eq!(emitted(&machine.step(Input::Started, now)), [Notice::Recovered]);
}

/// A hundred plugins that die of the same thing at the same time.
#[test]
fn those_that_die_together_are_started_one_after_the_other() {
    let now = Monotonic::now();
    let mut starts: Vec<Duration> = (0..100)
        .map(|seed| {
            let mut machine = Machine::new(POLICY, 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
            machine.step(Input::Enable, now);
            machine.step(Input::Started, now);
            machine.step(Input::Died { clean: false }, now);
            let State::Restarting { at } = machine.state() else { panic!("{machine:?}") };
            now.until(at)
        })
        .collect();
    starts.sort();
    starts.dedup();
    assert!(starts.len() > 95, "{starts:?}");
    let late = starts.iter().filter(|start| **start > POLICY.backoff * 9 / 10).count();
    assert!((25..75).contains(&late), "{late} of {} in the later half", starts.len());
}

#[test]
fn failures_outside_the_window_are_forgotten() {
    let mut now = Monotonic::now();
    let mut machine = enabled(now);
    for _ in 0..20 {
        machine.step(Input::Died { clean: false }, now);
        assert!(matches!(machine.state(), State::Restarting { .. }));
        now = now.plus(POLICY.window + Duration::from_millis(1));
        machine.step(Input::Timer, now);
        machine.step(Input::Started, now);
    }
    assert_eq!(machine.failures(), 1);
}

#[test]
fn the_policy_says_which_deaths_are_followed_by_a_start() {
    let now = Monotonic::now();
    for (when, clean, again) in [
        (RestartWhen::Never, false, false),
        (RestartWhen::Never, true, false),
        (RestartWhen::OnFailure, false, true),
        (RestartWhen::OnFailure, true, false),
        (RestartWhen::Always, false, true),
        (RestartWhen::Always, true, true),
    ] {
        let mut machine = enabled(now);
        machine.policy.when = when;
        machine.step(Input::Died { clean }, now);
        assert_eq!(machine.state() != State::Disabled, again, "{when:?}, clean: {clean}");
    }
}

#[test]
fn a_start_on_request_fails_back_to_disabled_and_says_so() {
    let now = Monotonic::now();
    let mut machine = Machine::new(POLICY, 7);
    machine.step(Input::Enable, now);
    let effects = machine.step(Input::StartFailed, now);
    assert_eq!(
        effects,
        [Effect::Emit(Notice::Error), Effect::Answer(Answer::StartEnded { up: false })]
    );
    assert_eq!(machine.state(), State::Disabled);
}

#[test]
fn requests_are_accepted_satisfied_or_refused() {
    let now = Monotonic::now();
    let mut machine = Machine::new(POLICY, 7);
    assert_eq!(machine.step(Input::Disable, now), [Effect::Answer(Answer::Satisfied)]);
    machine.step(Input::Enable, now);
    assert_eq!(machine.step(Input::Enable, now), [Effect::Answer(Answer::Wait)]);
    machine.step(Input::Started, now);
    assert_eq!(machine.step(Input::Enable, now), [Effect::Answer(Answer::Satisfied)]);
    machine.step(Input::Disable, now);
    assert_eq!(
        machine.step(Input::Enable, now),
        [Effect::Answer(Answer::Refused(State::Disabling))]
    );
    assert_eq!(
        machine.step(Input::Disable, now),
        [Effect::Answer(Answer::Wait), Effect::HastenStop]
    );
}

/// The world around the machine, kept independently of it: whether a process can exist, whether a
/// start or stop is under way, and who waits.
#[derive(Default, Debug)]
struct World {
    starting: bool,
    running: bool,
    stopping: bool,
    armed: Option<Monotonic>,
    start_waiters: u32,
    stop_waiters: u32,
}

impl World {
    /// The inputs that the world can produce in this condition.
    fn possible(&self, input: Input) -> bool {
        match input {
            Input::Enable | Input::Disable | Input::Timer => true,
            Input::Adopt => !self.starting && !self.running && !self.stopping,
            Input::Started | Input::StartFailed => self.starting,
            Input::Died { .. } => self.running && !self.stopping,
            Input::Stopped => self.stopping,
        }
    }

    fn apply(&mut self, input: Input, effects: &[Effect]) {
        match input {
            Input::Started => {
                self.starting = false;
                self.running = true;
            }
            Input::StartFailed => self.starting = false,
            Input::Died { .. } => self.running = false,
            Input::Stopped => {
                self.stopping = false;
                self.running = false;
            }
            Input::Enable | Input::Disable | Input::Adopt | Input::Timer => {}
        }
        for effect in effects {
            match effect {
                Effect::Start(_) => {
                    assert!(
                        !self.starting && !self.running && !self.stopping,
                        "a second process: {self:?}"
                    );
                    self.starting = true;
                }
                Effect::CancelStart => {
                    assert!(self.starting, "nothing to cancel: {self:?}");
                    self.starting = false;
                    self.stopping = true;
                }
                Effect::Stop => {
                    assert!(self.running && !self.stopping, "nothing to stop: {self:?}");
                    self.stopping = true;
                }
                Effect::HastenStop => assert!(self.stopping),
                Effect::Arm(at) => self.armed = Some(*at),
                Effect::Disarm => self.armed = None,
                Effect::Emit(_) => {}
                Effect::Answer(Answer::Wait) => match input {
                    Input::Enable => self.start_waiters += 1,
                    Input::Disable => self.stop_waiters += 1,
                    other => panic!("{other:?} is nobody's request"),
                },
                Effect::Answer(Answer::Satisfied | Answer::Refused(_)) => {
                    assert!(matches!(input, Input::Enable | Input::Disable));
                }
                Effect::Answer(Answer::StartEnded { .. }) => self.start_waiters = 0,
                Effect::Answer(Answer::StopEnded) => self.stop_waiters = 0,
            }
        }
    }

    fn agrees_with(&self, machine: &Machine) {
        let (starting, running, stopping) = match machine.state() {
            State::Disabled | State::Restarting { .. } | State::Tripped { .. } => {
                (false, false, false)
            }
            State::Enabling(_) => (true, false, false),
            State::Enabled => (false, true, false),
            State::Disabling => (false, self.running, true),
        };
        assert_eq!((self.starting, self.running, self.stopping), (starting, running, stopping));
        assert!(starting || self.start_waiters == 0, "somebody waits for ever: {self:?}");
        assert!(stopping || self.stop_waiters == 0, "somebody waits for ever: {self:?}");
        match machine.state() {
            State::Restarting { at } | State::Tripped { until: at } => {
                assert_eq!(self.armed, Some(at), "nothing would wake it");
            }
            _ => {}
        }
    }
}

fn inputs() -> impl Strategy<Value = Vec<(Input, u64)>> {
    let input = prop_oneof![
        Just(Input::Enable),
        Just(Input::Disable),
        Just(Input::Adopt),
        Just(Input::Started),
        Just(Input::StartFailed),
        any::<bool>().prop_map(|clean| Input::Died { clean }),
        Just(Input::Stopped),
        Just(Input::Timer),
    ];
    prop::collection::vec((input, 0..4_000u64), 0..200)
}

proptest! {
    #[test]
    fn never_two_processes_never_a_lost_request_never_a_sleep_without_a_timer(
        inputs in inputs(),
        when in prop_oneof![Just(RestartWhen::Never), Just(RestartWhen::OnFailure), Just(RestartWhen::Always)],
    ) {
        let mut now = Monotonic::now();
        let mut machine = Machine::new(RestartPolicy { when, ..POLICY }, 7);
        let mut world = World::default();
        for (input, wait) in inputs {
            now = now.plus(Duration::from_millis(wait));
            if !world.possible(input) {
                continue;
            }
            let effects = machine.step(input, now);
            world.apply(input, &effects);
            world.agrees_with(&machine);
        }
    }
}
