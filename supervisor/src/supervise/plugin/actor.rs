//! The task that owns one plugin's state.
//!
//! Theory of operation. Requests, exits and the news of the actor's own sub-tasks arrive one at a
//! time, are given to the [`Machine`] as inputs, and its effects are carried out here. A start or a
//! stop runs beside the actor as a sub-task, at most one at a time, and reports back as news. What
//! others may see is copied into the [`View`] after every step, so nobody has to ask.

mod configuring;
mod endings;
mod handle;
mod permitting;
mod stopping;
mod telling;
mod view;
mod wanting;

use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bulkhead_ipc_protocol::EndReason;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use super::Context;
use super::circuit::{Circuit, CircuitPolicy};
use super::health::{self, Checks};
use super::last_lines::last_lines;
use super::machine::{Effect, Input, Machine, Origin, State};
use super::plan::{StartPlan, granted};
use super::process::{self, Ended, ExitBoard, Process, StartError};
use super::stop::{StopReport, Stopping};
use crate::clock::Monotonic;
use crate::failure::{Code, Failure};
use crate::link::{Adopted, Exited};
use crate::manifest::{HostPath, Manifest, Permission};
use crate::supervise::store::PluginRow;
use crate::supervise::usage::Usage;

use configuring::Asked;
#[cfg(any(test, fuzzing))]
pub(crate) use configuring::in_force;
pub(crate) use configuring::{Applied, ConfigureAnswer};
pub(crate) use handle::PluginHandle;
pub(crate) use permitting::{Wanted, without};
pub(crate) use view::ProcessView;
use view::View;

/// How long a plugin that closed its session has to exit before it is stopped.
const EXIT_AFTER_CLOSE: Duration = Duration::from_secs(1);

/// What can be asked of a plugin's task.
pub(crate) enum Command {
    /// Starts what is wanted.
    Enable {
        answer: oneshot::Sender<Result<EnableReport, Failure>>,
    },
    Disable {
        stopping: Stopping,
        /// Whether the operator wants it to stay so; not when the service itself goes down.
        stays: bool,
        answer: oneshot::Sender<Result<StopReport, Failure>>,
    },
    /// Stores what the operator wants, before it is done or when it is taken back.
    Want {
        enabled: bool,
        config: Value,
        answer: oneshot::Sender<Result<(), Failure>>,
    },
    /// Replaces the operator's configuration.
    Configure {
        config: Value,
        answer: ConfigureAnswer,
    },
    /// Replaces what the plugin is granted.
    Permit {
        permissions: Option<Wanted<Permission>>,
        /// Places of the machine, which it has from its next start on.
        places: Option<Wanted<HostPath>>,
        answer: oneshot::Sender<Result<(), Failure>>,
    },
    Exited(Box<Exited>, Vec<OwnedFd>),
    /// The process uses more than it may of something that the kernel does not bound.
    Overrun {
        generation: u64,
        failure: Failure,
    },
    Adopt(Box<Adopted>, Vec<OwnedFd>),
    /// Stores that it is disabled, which could not be stored before; whether it is.
    StoreDisabled {
        answer: oneshot::Sender<bool>,
    },
    /// Ends the task of a plugin that is disabled; refused otherwise.
    Retire {
        answer: oneshot::Sender<Result<(), Failure>>,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct EnableReport {
    /// Zero if it was enabled already.
    pub(crate) started_in: Duration,
}

/// What a sub-task reports.
enum News {
    Started(Box<Process>),
    StartFailed(Box<Failure>, Ended),
    /// What was taken over is to be stopped.
    Unfit(Box<Process>, Box<Failure>),
    /// That is done.
    PutDown(Box<Failure>, Result<StopReport, Failure>),
    StartCancelled(Ended),
    Stopped(Result<StopReport, Failure>),
    SessionEnded {
        generation: u64,
        end: EndReason,
    },
    Configured(Asked),
    Checked {
        generation: u64,
        result: Result<(), Failure>,
    },
}

struct Actor {
    context: Context,
    row: PluginRow,
    manifest: Arc<Manifest>,
    machine: Machine,
    view: watch::Sender<View>,
    /// Of other plugins' calls to it.
    circuit: Arc<Mutex<Circuit>>,
    exits: ExitBoard,
    news: mpsc::UnboundedSender<News>,
    /// Its own commands: what it asks of itself for later.
    commands: mpsc::WeakUnboundedSender<Command>,
    process: Option<Rc<Process>>,
    /// Turned true to give up the start under way.
    cancel: watch::Sender<bool>,
    timer: Option<Monotonic>,
    start_asked: Monotonic,
    /// While it is being disabled: of what was asked, what is due first. None: the service's own doing.
    stopping: Option<Stopping>,
    /// A process to take over instead of starting one.
    adopting: Option<(Box<Adopted>, Vec<OwnedFd>)>,
    waiting_for_start: Vec<oneshot::Sender<Result<EnableReport, Failure>>>,
    waiting_for_stop: Vec<oneshot::Sender<Result<StopReport, Failure>>>,
    last_failure: Option<Failure>,
    last_stop: Option<Result<StopReport, Failure>>,
    /// Why it is not stored that the operator wants it to be disabled.
    unstored: Option<Failure>,
    /// That is tried again by itself.
    storing: bool,
    /// What a start used when it was asked to stop.
    sampled: Option<(u64, Usage)>,
    /// The newest start whose output is being read.
    heard: u64,
    /// Of the process that is up.
    checks: Checks,
    /// The process is being asked to take another configuration.
    configuring: bool,
    /// The start under way may have been told of permissions that are not those of now.
    repermitted: bool,
}

/// Starts the task of a plugin. Must run inside the local set.
pub(crate) fn spawn(context: Context, row: PluginRow, manifest: Arc<Manifest>) -> PluginHandle {
    let (commands, inbox) = mpsc::unbounded_channel();
    let (news, newsbox) = mpsc::unbounded_channel();
    // Only to differ from others that died for the same reason at the same time.
    let seed = RandomState::new().hash_one(&row.id);
    let machine = Machine::new(restart_policy(&manifest), seed);
    let view = watch::Sender::new(View::new(&row, &manifest));
    let circuit = Arc::new(Mutex::new(Circuit::new(circuit_policy(&manifest))));
    let handle = PluginHandle {
        commands,
        manifest: Arc::clone(&manifest),
        book: context.book.clone(),
        view: view.subscribe(),
        circuit: Arc::clone(&circuit),
    };
    let actor = Actor {
        context,
        row,
        manifest,
        machine,
        view,
        circuit,
        exits: watch::Sender::new(None),
        news,
        commands: handle.commands.downgrade(),
        process: None,
        cancel: watch::Sender::new(false),
        timer: None,
        start_asked: Monotonic::now(),
        stopping: None,
        adopting: None,
        waiting_for_start: vec![],
        waiting_for_stop: vec![],
        last_failure: None,
        last_stop: None,
        unstored: None,
        storing: false,
        sampled: None,
        heard: 0,
        checks: Checks::default(),
        configuring: false,
        repermitted: false,
    };
    tokio::task::spawn_local(actor.run(inbox, newsbox));
    handle
}

fn restart_policy(manifest: &Manifest) -> super::machine::RestartPolicy {
    use super::machine::RestartWhen;
    use crate::manifest::RestartPolicy;
    let restart = &manifest.lifecycle.restart;
    super::machine::RestartPolicy {
        when: match restart.policy {
            RestartPolicy::Never => RestartWhen::Never,
            RestartPolicy::OnFailure => RestartWhen::OnFailure,
            RestartPolicy::Always => RestartWhen::Always,
        },
        backoff: restart.backoff.duration(),
        backoff_max: restart.backoff_max.duration(),
        max_failures: restart.limit as usize + 1,
        window: restart.window.duration(),
        cool_down: restart.cool_down.duration(),
    }
}

fn circuit_policy(manifest: &Manifest) -> CircuitPolicy {
    let circuit = &manifest.lifecycle.circuit;
    CircuitPolicy { failures: circuit.failures, cool_down: circuit.cool_down.duration() }
}

impl Actor {
    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Command>,
        mut newsbox: mpsc::UnboundedReceiver<News>,
    ) {
        loop {
            let timer = self.timer;
            tokio::select! {
                command = inbox.recv() => match command {
                    None => break,
                    Some(Command::Retire { answer }) => {
                        if self.retire(answer) {
                            break;
                        }
                    }
                    Some(command) => self.obey(command).await,
                },
                news = newsbox.recv() => match news {
                    None => break,
                    Some(news) => self.hear(news).await,
                },
                () = sleep_until(timer) => {
                    self.timer = None;
                    self.step(Input::Timer).await;
                }
            }
            self.show();
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Enable { answer } => {
                self.start_asked = Monotonic::now();
                self.waiting_for_start.push(answer);
                self.step(Input::Enable).await;
            }
            Command::Disable { stopping, stays, answer } => {
                self.disable(stopping, stays, answer).await;
            }
            Command::Want { enabled, config, answer } => {
                let _ = answer.send(self.want(enabled, config).await);
            }
            Command::StoreDisabled { answer } => {
                self.store_disabled().await;
                self.storing = self.unstored.is_some();
                let _ = answer.send(!self.storing);
            }
            Command::Configure { config, answer } => self.configure(config, answer).await,
            Command::Permit { permissions, places, answer } => {
                let permitted = self.permit(permissions.as_ref(), places.as_ref()).await;
                // What is answered is in force.
                self.show();
                let _ = answer.send(permitted);
            }
            Command::Exited(exited, descriptors) => self.exited(exited, descriptors).await,
            Command::Overrun { generation, failure } => self.overrun(generation, failure).await,
            Command::Adopt(adopted, descriptors) => {
                self.heard = adopted.spawned.generation;
                self.adopting = Some((adopted, descriptors));
                self.step(Input::Adopt).await;
            }
            Command::Retire { .. } => {}
        }
    }

    async fn hear(&mut self, news: News) {
        let disabling = self.machine.state() == State::Disabling;
        match news {
            News::Started(process) => {
                let process = Rc::new(*process);
                if !disabling && let Some(exited) = self.exit_of(process.generation) {
                    // It was heard of first, and nobody will tell of it again.
                    let failure = process::died(&exited, "health");
                    let (key, lines) =
                        last_lines(&self.context, &self.manifest, process.generation).await;
                    let stopped = Ok(self.taken_back(Some(&exited)));
                    self.start_failed(failure.with(key, lines), stopped).await;
                    return;
                }
                self.watch_session(&process);
                self.watch_health(&process);
                self.tell_permissions(&process);
                self.process = Some(process);
                if disabling {
                    // It came up while it was asked to give up: stop it as an enabled one.
                    self.begin_stop();
                } else {
                    self.last_failure = None;
                    self.step(Input::Started).await;
                    if !self.row.enabled {
                        // Taken over though the operator had disabled it: the stop that a dead
                        // supervisor had begun is finished.
                        self.step(Input::Disable).await;
                    }
                }
            }
            News::StartFailed(failure, ended) => {
                let stopped = Ok(self.taken_back(ended.as_ref()));
                self.start_failed(*failure, stopped).await;
            }
            News::Unfit(process, failure) => self.unfit(Rc::new(*process), *failure),
            News::PutDown(failure, stopped) => self.put_down(*failure, stopped).await,
            News::StartCancelled(ended) => {
                self.stopped(Ok(self.taken_back(ended.as_ref()))).await;
            }
            News::Stopped(result) => self.stopped(result).await,
            News::Configured(asked) => self.configured(asked).await,
            News::Checked { generation, result } => self.checked(generation, result).await,
            News::SessionEnded { generation, end } => self.session_ended(generation, end).await,
        }
    }

    async fn step(&mut self, input: Input) {
        let effects = self.machine.step(input, Monotonic::now());
        tracing::debug!(plugin = %self.row.id, ?input, state = self.machine.state().name(), ?effects);
        self.show();
        for effect in effects {
            match effect {
                Effect::Start(origin) => self.begin_start(origin),
                Effect::CancelStart => {
                    self.cancel.send_replace(true);
                    // What was taken over may be on its way out already, with more patience.
                    self.hasten_stop().await;
                }
                Effect::Stop => self.begin_stop(),
                Effect::HastenStop => self.hasten_stop().await,
                Effect::Arm(at) => self.timer = Some(at),
                Effect::Disarm => self.timer = None,
                Effect::Emit(notice) => self.emit(notice),
                Effect::Answer(answer) => self.answer(input, answer),
            }
        }
        if self.machine.state() != State::Disabling {
            self.stopping = None;
        }
        self.show();
    }

    fn begin_start(&mut self, origin: Origin) {
        if origin != Origin::Request {
            self.start_asked = Monotonic::now();
        }
        self.repermitted = false;
        self.cancel = watch::Sender::new(false);
        let cancelled = self.cancel.subscribe();
        let plan = StartPlan::new(&self.row, &self.manifest, self.context.settings.strict);
        let (context, exits, news) = (self.context.clone(), self.exits.clone(), self.news.clone());
        let adopting = self.adopting.take();
        tokio::task::spawn_local(async move {
            let result = match adopting {
                Some((adopted, descriptors)) => {
                    process::adopt(&context, &plan, &exits, *adopted, descriptors, cancelled).await
                }
                None => process::start(&context, &plan, &exits, cancelled).await,
            };
            // The actor is gone only when the service is.
            let _ = news.send(match result {
                Ok(process) => News::Started(Box::new(process)),
                Err(StartError::Failed(failure, ended)) => {
                    News::StartFailed(Box::new(failure), ended)
                }
                Err(StartError::Cancelled(ended)) => News::StartCancelled(ended),
                Err(StartError::Unfit(process, failure)) => News::Unfit(process, Box::new(failure)),
            });
        });
    }

    fn watch_session(&self, process: &Rc<Process>) {
        let (peer, generation) = (process.peer.clone(), process.generation);
        let news = self.news.clone();
        tokio::task::spawn_local(async move {
            let end = peer.closed().await;
            let _ = news.send(News::SessionEnded { generation, end });
        });
    }

    /// Has its health checked for as long as its session lasts; that of one that was taken over at
    /// once, as nobody else has.
    fn watch_health(&mut self, process: &Rc<Process>) {
        self.checks = Checks::default();
        let lifecycle = &self.manifest.lifecycle;
        let interval = lifecycle.health_interval.duration();
        if interval.is_zero() {
            return;
        }
        let limit = lifecycle.health_timeout.duration();
        let taken_over = self.machine.state() == State::Enabling(Origin::Adoption);
        let (peer, generation) = (process.peer.clone(), process.generation);
        let news = self.news.clone();
        tokio::task::spawn_local(async move {
            let mut pause = if taken_over { Duration::ZERO } else { interval };
            while tokio::time::timeout(pause, peer.closed()).await.is_err() {
                pause = interval;
                let Some(result) = health::check(&peer, limit).await else { continue };
                if news.send(News::Checked { generation, result }).is_err() {
                    return;
                }
            }
        });
    }

    fn retire(&mut self, answer: oneshot::Sender<Result<(), Failure>>) -> bool {
        let state = self.machine.state();
        let disabled = state == State::Disabled;
        let _ = answer.send(if disabled {
            Ok(())
        } else {
            let message = format!("{} is {}; disable it first", self.row.id, state.name());
            Err(Failure::new(Code::Conflict, message).with("state", state.name()))
        });
        disabled
    }

    /// Copies what others may see.
    fn show(&self) {
        let view = View {
            id: self.row.id.clone(),
            digest: self.row.digest,
            installed_at: self.row.installed_at.clone(),
            previous: self.row.previous.clone(),
            state: self.machine.state().name(),
            enabled: self.row.enabled,
            config: self.row.config.clone(),
            granted: granted(&self.row, &self.manifest),
            last_usage: self.row.last_usage.clone(),
            failures: self.machine.failures(),
            failed_checks: self.checks.failed(),
            process: self.process.as_deref().map(ProcessView::new),
            last_exit: self.row.last_exit.clone(),
            last_failure: self.last_failure.clone(),
        };
        // Readers are woken only by a change that can matter to them.
        self.view.send_if_modified(|shown| {
            let news = shown.state != view.state;
            *shown = view;
            news
        });
    }
}

/// Until that moment of the monotonic clock; for ever if there is none.
async fn sleep_until(at: Option<Monotonic>) {
    match at {
        Some(at) => tokio::time::sleep(Monotonic::now().until(at)).await,
        None => std::future::pending().await,
    }
}
