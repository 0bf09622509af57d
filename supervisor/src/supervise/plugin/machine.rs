//! What to do about a plugin, decided without doing it.
//!
//! ```text
//!              Enable              Started
//!  Disabled ──────────▶ Enabling ──────────▶ Enabled ───┐ Died
//!   ▲  ▲  ▲               │  ▲ │ StartFailed   │        │
//!   │  │  └──StartFailed──┘  │ │ (a restart)   │        ▼
//!   │  │    (on request)     │ └───────────────┼──▶ Restarting ──▶ Tripped   too many in the window
//!   │  │                     └─────Timer───────┼────────┘ ▲           │
//!   │  │                     └─────Timer (half-open)──────┼───────────┘
//!   │  └──Disable: nothing runs────────────────┼──────────┴───────────┘
//!   └──Stopped── Disabling ◀─────Disable───────┘
//! ```
//!
//! Theory of operation. [`Machine::step`] is a pure function of the state, one input and the time;
//! it returns effects for the plugin's actor to carry out. Timers and deaths arrive as inputs. An
//! operator's request is accepted, already satisfied, or refused with the state that stands in its
//! way. A start that an operator asked for fails back to `Disabled`; a start that we made
//! ourselves counts as one more failure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Monotonic;

/// When to start a plugin again that died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RestartPolicy {
    pub(crate) when: RestartWhen,
    /// The first pause; each further failure doubles it, up to `backoff_max`. All pauses are up to a
    /// fifth shorter.
    pub(crate) backoff: Duration,
    pub(crate) backoff_max: Duration,
    /// This many failures within `window` open the circuit.
    pub(crate) max_failures: usize,
    pub(crate) window: Duration,
    /// How long the circuit stays open before one start is tried.
    pub(crate) cool_down: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartWhen {
    Never,
    /// After a death that was not a clean exit.
    OnFailure,
    Always,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Disabled,
    Enabling(Origin),
    Enabled,
    Disabling,
    Restarting { at: Monotonic },
    Tripped { until: Monotonic },
}

/// The names of the states; see [`State::name`].
pub(crate) const STATES: [&str; 6] =
    ["disabled", "enabling", "enabled", "disabling", "restarting", "tripped"];

impl State {
    /// As the admin API and events name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Disabled => "disabled",
            State::Enabling(_) => "enabling",
            State::Enabled => "enabled",
            State::Disabling => "disabling",
            State::Restarting { .. } => "restarting",
            State::Tripped { .. } => "tripped",
        }
    }
}

/// Who wanted a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The operator, or the service's own start.
    Request,
    /// A running process was taken over from the supervisor before.
    Adoption,
    /// After a death.
    Restart,
    /// The one try after the circuit's cool-down.
    HalfOpen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Enable,
    /// A process of this plugin already runs.
    Adopt,
    Disable,
    Started,
    /// The start failed and has undone itself: no process is left.
    StartFailed,
    /// The process ended by itself while it was enabled.
    Died {
        clean: bool,
    },
    /// A stop has ended: no process is left.
    Stopped,
    Timer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Begin a start; answer with `Started` or `StartFailed`.
    Start(Origin),
    /// Give up the start under way, and stop what it may have started; answer with `Stopped`.
    CancelStart,
    /// Begin a stop; answer with `Stopped`.
    Stop,
    /// A stop is under way already: bring its deadline forward if this request has an earlier one.
    HastenStop,
    /// Send `Timer` at that time. The last one armed counts.
    Arm(Monotonic),
    Disarm,
    Emit(Notice),
    Answer(Answer),
}

/// Events; the actor adds the particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Enabling,
    Enabled,
    Error,
    Disabling,
    Disabled,
    Restarting,
    Tripped,
    Recovered,
}

/// What becomes of the request at hand, or of those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It waits for the end of the start or stop.
    Wait,
    /// It is so already.
    Satisfied,
    /// It cannot be done in this state.
    Refused(State),
    /// To all that wait for a start.
    StartEnded { up: bool },
    /// To all that wait for a stop.
    StopEnded,
}

#[derive(Clone, Debug)]
pub(crate) struct Machine {
    state: State,
    policy: RestartPolicy,
    /// The deaths and failed restarts of the window, oldest first.
    failures: VecDeque<Monotonic>,
    /// What the pauses are drawn from; never zero.
    seed: u64,
}

impl Machine {
    /// A machine whose pauses differ from those of one with another seed.
    pub(crate) fn new(policy: RestartPolicy, seed: u64) -> Self {
        Self { state: State::Disabled, policy, failures: VecDeque::new(), seed: seed | 1 }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// How many failures the window holds.
    pub(crate) fn failures(&self) -> usize {
        self.failures.len()
    }

    pub(crate) fn step(&mut self, input: Input, now: Monotonic) -> Vec<Effect> {
        use Effect::{Answer as A, Arm, CancelStart, Disarm, Emit, HastenStop, Start, Stop};
        match (self.state, input) {
            (State::Disabled, Input::Enable) => {
                self.failures.clear();
                self.state = State::Enabling(Origin::Request);
                vec![A(Answer::Wait), Emit(Notice::Enabling), Start(Origin::Request)]
            }
            (State::Disabled, Input::Adopt) => {
                self.state = State::Enabling(Origin::Adoption);
                vec![Start(Origin::Adoption)]
            }
            (State::Restarting { .. } | State::Tripped { .. }, Input::Enable) => {
                self.failures.clear();
                self.state = State::Enabling(Origin::Request);
                vec![A(Answer::Wait), Disarm, Emit(Notice::Enabling), Start(Origin::Request)]
            }
            (State::Enabling(_), Input::Enable) => vec![A(Answer::Wait)],
            (State::Enabled, Input::Enable) | (State::Disabled, Input::Disable) => {
                vec![A(Answer::Satisfied)]
            }
            (State::Disabling, Input::Enable) => vec![A(Answer::Refused(self.state))],

            (State::Enabling(_), Input::Disable) => {
                self.state = State::Disabling;
                vec![
                    A(Answer::Wait),
                    Emit(Notice::Disabling),
                    A(Answer::StartEnded { up: false }),
                    CancelStart,
                ]
            }
            (State::Enabled, Input::Disable) => {
                self.state = State::Disabling;
                vec![A(Answer::Wait), Emit(Notice::Disabling), Stop]
            }
            (State::Disabling, Input::Disable) => vec![A(Answer::Wait), HastenStop],
            (State::Restarting { .. } | State::Tripped { .. }, Input::Disable) => {
                self.state = State::Disabled;
                vec![
                    A(Answer::Wait),
                    Disarm,
                    Emit(Notice::Disabling),
                    Emit(Notice::Disabled),
                    A(Answer::StopEnded),
                ]
            }

            (State::Enabling(origin), Input::Started) => {
                self.state = State::Enabled;
                let mut effects = match origin {
                    Origin::Request => vec![Emit(Notice::Enabled)],
                    Origin::Adoption => vec![],
                    Origin::Restart | Origin::HalfOpen => vec![Emit(Notice::Recovered)],
                };
                effects.push(A(Answer::StartEnded { up: true }));
                effects
            }
            (State::Enabling(Origin::Request), Input::StartFailed) => {
                self.state = State::Disabled;
                vec![Emit(Notice::Error), A(Answer::StartEnded { up: false })]
            }
            (State::Enabling(_), Input::StartFailed) => {
                let mut effects = vec![Emit(Notice::Error)];
                effects.extend(self.failed(now));
                effects.push(A(Answer::StartEnded { up: false }));
                effects
            }

            (State::Enabled, Input::Died { clean }) => {
                let again = match self.policy.when {
                    RestartWhen::Never => false,
                    RestartWhen::OnFailure => !clean,
                    RestartWhen::Always => true,
                };
                let mut effects = vec![];
                if !clean {
                    effects.push(Emit(Notice::Error));
                }
                if again {
                    effects.extend(self.failed(now));
                } else {
                    self.state = State::Disabled;
                    effects.push(Emit(Notice::Disabled));
                }
                effects
            }

            (State::Disabling, Input::Stopped) => {
                self.state = State::Disabled;
                vec![Emit(Notice::Disabled), A(Answer::StopEnded)]
            }

            (State::Restarting { at }, Input::Timer) if now >= at => {
                self.state = State::Enabling(Origin::Restart);
                vec![Start(Origin::Restart)]
            }
            (State::Tripped { until }, Input::Timer) if now >= until => {
                self.state = State::Enabling(Origin::HalfOpen);
                vec![Start(Origin::HalfOpen)]
            }
            // A timer that came early keeps its time.
            (State::Restarting { at } | State::Tripped { until: at }, Input::Timer) => {
                vec![Arm(at)]
            }

            // News of a start, a stop or a death that the state has already left behind, and an
            // adoption of what is not at rest: nothing to do.
            (
                _,
                Input::Timer
                | Input::Adopt
                | Input::Started
                | Input::StartFailed
                | Input::Died { .. }
                | Input::Stopped,
            ) => vec![],
        }
    }

    /// Up to a fifth less, so that plugins that died together are not started together.
    fn spread(&mut self, pause: Duration) -> Duration {
        // xorshift64 (Marsaglia 2003): even enough for this, and the same again for the same seed.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let drawn = (self.seed >> 11) as f64 / (1_u64 << 53) as f64;
        pause.mul_f64(1.0 - drawn / 5.0)
    }

    /// One more failure: pause, or open the circuit.
    fn failed(&mut self, now: Monotonic) -> Vec<Effect> {
        let half_open = self.state == State::Enabling(Origin::HalfOpen);
        self.failures.push_back(now);
        while self.failures.front().is_some_and(|old| old.until(now) > self.policy.window) {
            self.failures.pop_front();
        }
        if half_open || self.failures.len() >= self.policy.max_failures {
            let until = now.plus(self.spread(self.policy.cool_down));
            self.state = State::Tripped { until };
            return vec![Effect::Emit(Notice::Tripped), Effect::Arm(until)];
        }
        let doublings = u32::try_from(self.failures.len() - 1).unwrap_or(u32::MAX).min(16);
        let pause = self.policy.backoff.saturating_mul(1 << doublings).min(self.policy.backoff_max);
        let at = now.plus(self.spread(pause));
        self.state = State::Restarting { at };
        vec![Effect::Emit(Notice::Restarting), Effect::Arm(at)]
    }
}

#[cfg(test)]
mod tests;
