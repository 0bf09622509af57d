//! One start of a plugin: from the launcher's spawn to a session that answers.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_ipc_driver::{Peer, Socket, connect};
use bulkhead_ipc_protocol::{
    Call, CallError, CallFailure, EndReason, Hello, Limits, Payload, Violation, lifecycle,
};
use bulkhead_sandbox::Enforcement;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Context;
use super::effective::Effective;
use super::host::HostSide;
use super::last_lines::last_lines;
use super::plan::StartPlan;
use super::quota::Kept;
use super::stop::{self, AFTER_KILL, gone_by};
use crate::clock::Monotonic;
use crate::exposure::{Exposure, Score};
use crate::failure::{Code, Failure};
use crate::link::{self, Adopted, Exited, Json, Reply, Request, Spawn, Spawned};
use crate::refusal::Barrier;
use crate::supervise::denials::Denials;
use crate::supervise::launcher_link::unexpected;
use crate::supervise::logs::Stream;
use crate::supervise::registry::Grant;
use crate::supervise::timestamp;

/// How long after its session closed a process may take to be gone, before that is remarkable.
const EXIT_AFTER_CLOSE: Duration = Duration::from_secs(2);
/// When a count that the launcher had no room for is asked for again.
const COUNT_AGAIN: Duration = Duration::from_millis(50);
/// For so long.
const COUNT_PATIENCE: Duration = Duration::from_secs(30);
/// A longer variable is left out: the kernel takes 128 KiB of one (MAX_ARG_STRLEN).
const MAX_VARIABLE: usize = 64 * 1024;

/// A process of a plugin, with its session.
pub(crate) struct Process {
    pub(crate) generation: u64,
    pub(crate) pid: i32,
    pub(crate) started: Monotonic,
    /// RFC 3339, UTC. For a process that was taken over: when it was taken over.
    pub(crate) started_at: String,
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) enforcement: Arc<Enforcement>,
    /// The places are those that it was started with; for one that was taken over, the permissions are those of then.
    pub(crate) granted: Arc<Grant>,
    pub(crate) peer: Peer,
    pub(crate) host: HostSide,
    pub(super) exits: Exits,
}

/// Where the exits of a plugin are heard of.
pub(crate) type Exits = watch::Receiver<Option<Arc<Exited>>>;

/// What a plugin's exits are told through: the actor sends, whoever waits for an end listens.
pub(crate) type ExitBoard = watch::Sender<Option<Arc<Exited>>>;

/// Why a start did not end with a plugin that is up.
pub(crate) enum StartError {
    Failed(Failure, Ended),
    /// Someone asked for the plugin to be disabled meanwhile.
    Cancelled(Ended),
    /// What was taken over runs, and does not do what it should: it is to be stopped as at any other
    /// time, as it may have something to save.
    Unfit(Box<Process>, Failure),
}

/// The end of the process that a start had come to. None: it had come to none, or its end is not heard of.
pub(crate) type Ended = Option<Arc<Exited>>;

impl From<Failure> for StartError {
    /// Before there was a process.
    fn from(failure: Failure) -> Self {
        StartError::Failed(failure, None)
    }
}

/// Starts the plugin and brings it up. When it fails no process is left.
pub(crate) async fn start(
    context: &Context,
    plan: &StartPlan,
    exits: &ExitBoard,
    mut cancelled: watch::Receiver<bool>,
) -> Result<Process, StartError> {
    let (spawned, descriptors) = spawn(context, plan, &mut cancelled).await?;
    Denials::begin(&context.registry, &plan.id, spawned.uid, spawned.generation, false);
    let generation = spawned.generation;
    context.given.begin(generation);
    let error = match attach(context, plan, exits, spawned, descriptors) {
        Err(failure) => failure.into(),
        Ok(process) => match take_up(context, plan, &process, Until::Healthy, cancelled).await {
            Ok(()) => return Ok(process),
            Err(error) => error,
        },
    };
    let ended = roll_back(context, plan, exits, generation).await;
    Err(match error {
        StartError::Failed(failure, _) => {
            let (key, lines) = last_lines(context, &plan.manifest, generation).await;
            StartError::Failed(failure.with(key, lines), ended)
        }
        StartError::Cancelled(_) => StartError::Cancelled(ended),
        other @ StartError::Unfit(..) => other,
    })
}

/// Has the launcher start it, in its turn. That ends here: how long a plugin takes for itself is no reason
/// for another to wait.
async fn spawn(
    context: &Context,
    plan: &StartPlan,
    cancelled: &mut watch::Receiver<bool>,
) -> Result<(Spawned, Vec<OwnedFd>), StartError> {
    let checked = async {
        let place = context.launcher.place_to_start().await;
        check_storage(context, plan).await.map(|()| place)
    };
    let _place = tokio::select! {
        place = checked => place?,
        _ = cancelled.wait_for(|cancelled| *cancelled) => return Err(StartError::Cancelled(None)),
    };
    let request = Request::Spawn(Box::new(Spawn {
        id: plan.id.clone(),
        digest: plan.digest,
        entry: plan.manifest.entry(),
        args: vec![],
        env: environment(context, plan),
        policy: Json(plan.policy.clone()),
    }));
    match context.launcher.ask(request).await? {
        (Reply::Spawned(spawned), descriptors) => Ok((spawned, descriptors)),
        (other, _) => Err(unexpected(&other).into()),
    }
}

/// What the SDK is told before there is a session.
fn environment(context: &Context, plan: &StartPlan) -> Vec<(String, String)> {
    let resume = context.settings.resume_timeout.as_secs().to_string();
    let mut variables = vec![("BULKHEAD_RESUME_SECS".to_owned(), resume)];
    let topics = &plan.manifest.events.subscribes;
    let topics: Vec<String> = topics.iter().map(ToString::to_string).collect();
    let topics = topics.join(",");
    // It only lets the SDK refuse a handler that would hear nothing, so it may be missing; a start
    // that execve(2) refuses for it may not.
    if topics.len() <= MAX_VARIABLE {
        variables.push(("BULKHEAD_SUBSCRIBES".to_owned(), topics));
    }
    variables
}

/// A plugin that keeps more than it may would be stopped again at once. While the launcher has no room for
/// one more count, this waits, but not for ever: others ask for counts as well. What cannot be counted now is
/// when it runs.
async fn check_storage(context: &Context, plan: &StartPlan) -> Result<(), Failure> {
    let late = Instant::now() + COUNT_PATIENCE;
    loop {
        match Kept::measure(&context.launcher, &context.store, &plan.id).await {
            Ok(kept) => return kept.check(&plan.id, plan.manifest.limits.storage.bytes()),
            Err(failure) if no_room(&failure) && Instant::now() < late => {
                tokio::time::sleep(COUNT_AGAIN).await;
            }
            // Nothing is kept by what has no storage yet.
            Err(failure) if failure.code == Code::NotFound => return Ok(()),
            Err(failure) => {
                tracing::warn!(plugin = %plan.id, %failure, "it starts before what it keeps was counted");
                return Ok(());
            }
        }
    }
}

/// Whether the launcher does others' work, and is to be asked again.
fn no_room(failure: &Failure) -> bool {
    let resource = &failure.details["resource"];
    failure.code == Code::ResourceExhausted
        && (*resource == link::JOBS || *resource == link::MEASURES)
}

/// Takes over a process that another supervisor started. It is no new one, so whatever it does, it is
/// given back; one that is to be disabled meanwhile as one that is up.
pub(crate) async fn adopt(
    context: &Context,
    plan: &StartPlan,
    exits: &ExitBoard,
    adopted: Adopted,
    descriptors: Vec<OwnedFd>,
    cancelled: watch::Receiver<bool>,
) -> Result<Process, StartError> {
    let Spawned { uid, generation, .. } = adopted.spawned;
    Denials::begin(&context.registry, &plan.id, uid, generation, true);
    // What was granted or withheld since its start is in force from its next.
    let granted = plan.granted.with_places(&plan.manifest, &adopted.places);
    let plan = &StartPlan { granted: Arc::new(granted), ..plan.clone() };
    let process = match attach(context, plan, exits, adopted.spawned, descriptors) {
        Ok(process) => process,
        Err(failure) => {
            // Nobody can ask it anything.
            let ended = roll_back(context, plan, exits, generation).await;
            return Err(StartError::Failed(failure, ended));
        }
    };
    match take_up(context, plan, &process, Until::Initialized, cancelled).await {
        Err(StartError::Failed(failure, _)) => Err(StartError::Unfit(Box::new(process), failure)),
        _ => Ok(process),
    }
}

/// How far a process is brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Its health is checked as that of one that runs: a failed check is one of several.
    Initialized,
    Healthy,
}

async fn take_up(
    context: &Context,
    plan: &StartPlan,
    process: &Process,
    until: Until,
    mut cancelled: watch::Receiver<bool>,
) -> Result<(), StartError> {
    let maximum = context.settings.admission.max_exposure;
    within_bound(plan, &process.enforcement, maximum)?;
    let effective = plan.effective(&context.launcher).await?;
    context.given.add(process.generation, &effective.secrets);
    let stage = watch::Sender::new("handshake");
    let brought_up = tokio::select! {
        result = bring_up(plan, &effective, process, until, &stage) => result,
        exited = process.exited() => Err(died(&exited, &stage.borrow())),
        _ = cancelled.wait_for(|cancelled| *cancelled) => return Err(StartError::Cancelled(None)),
    };
    Ok(brought_up.map_err(|failure| effective.secrets.mask(failure))?)
}

/// What was measured may be worse than what was expected when the start was admitted.
fn within_bound(
    plan: &StartPlan,
    enforcement: &Enforcement,
    maximum: Option<Score>,
) -> Result<(), Failure> {
    let Some(maximum) = maximum else { return Ok(()) };
    let granted = plan.granted.manifest(&plan.manifest);
    Exposure::measured(&granted, enforcement).check(&plan.id, maximum)
}

/// Connects the descriptors of a process to the session, the log and the exits.
fn attach(
    context: &Context,
    plan: &StartPlan,
    exits: &ExitBoard,
    spawned: Spawned,
    descriptors: Vec<OwnedFd>,
) -> Result<Process, Failure> {
    let count = descriptors.len();
    let Ok([session, stdout, stderr]) = <[OwnedFd; 3]>::try_from(descriptors) else {
        return Err(Failure::internal(format!("a start came with {count} descriptors, not 3")));
    };
    let generation = spawned.generation;
    for (pipe, stream) in [(stdout, Stream::Stdout), (stderr, Stream::Stderr)] {
        context.capture(pipe, stream, generation, exits);
    }
    let session = std::os::unix::net::UnixStream::from(session);
    let session = Socket::new(session)
        .map_err(|e| Failure::internal(format!("the session socket cannot be used: {e}")))?;
    let host = HostSide::new(context, plan, generation);
    let version = semver::Version::parse(env!("CARGO_PKG_VERSION"))
        .map_err(|e| Failure::internal(format!("our own version is malformed: {e}")))?;
    let hello = Hello::new("bulkhead", version)
        .map_err(|e| Failure::internal(format!("our own hello is malformed: {e}")))?;
    let limits = Limits { handshake_deadline: plan.timeouts.handshake, ..Limits::default() };
    let (peer, driver) = connect(session, hello, limits, host.clone());
    tokio::task::spawn_local(driver);
    Ok(Process {
        generation,
        pid: spawned.pid,
        started: spawned.started,
        started_at: timestamp(),
        cgroup: spawned.cgroup,
        enforcement: Arc::new(spawned.enforcement.0),
        granted: Arc::clone(&plan.granted),
        peer,
        host,
        exits: exits.subscribe(),
    })
}

/// Handshake, configuration, health; without the last for one that was taken over.
async fn bring_up(
    plan: &StartPlan,
    effective: &Effective,
    process: &Process,
    until: Until,
    stage: &watch::Sender<&'static str>,
) -> Result<(), Failure> {
    let peer = &process.peer;
    if let Err(end) = peer.ready().await {
        return Err(process.explain(end, "handshake").await);
    }
    stage.send_replace("init");
    let request = lifecycle::InitRequest {
        plugin_id: plan.id.to_string(),
        version: plan.version.to_string(),
        config: effective.text.clone(),
        permissions: plan.permissions.iter().map(ToString::to_string).collect(),
    };
    let payload = Payload::bincode(&request)
        .map_err(|e| Failure::internal(format!("the init request cannot be encoded: {e}")))?;
    let reply = call(process, lifecycle::INIT, payload, plan.timeouts.init, "init").await?;
    if init_reply(&reply)?.resumed {
        tracing::info!(plugin = %plan.id, generation = process.generation, "resumed");
    }
    if until == Until::Initialized {
        return Ok(());
    }
    stage.send_replace("health");
    let nothing = Payload::bincode(&())
        .map_err(|e| Failure::internal(format!("the health request cannot be encoded: {e}")))?;
    call(process, lifecycle::HEALTH, nothing, plan.timeouts.health, "health").await?;
    Ok(())
}

/// What a plugin answered to its configuration.
pub(crate) fn init_reply(reply: &Payload) -> Result<lifecycle::InitReply, Failure> {
    reply.decode_bincode().map_err(|e| {
        Failure::new(Code::ProtocolViolation, format!("the reply to init is malformed: {e}"))
    })
}

async fn call(
    process: &Process,
    method: &str,
    payload: Payload,
    timeout: Duration,
    stage: &'static str,
) -> Result<Payload, Failure> {
    let call = Call::new(method, payload).with_timeout(timeout);
    match process.peer.call(call).await {
        Ok(reply) => Ok(reply),
        Err(CallFailure::Remote(error)) => Err(refused(error, stage, timeout)),
        Err(CallFailure::Timeout { limit }) => Err(late(stage, limit)),
        Err(CallFailure::Ended(end)) => Err(process.explain(end, stage).await),
        Err(other) => Err(Failure::internal(format!("{stage} could not be asked for: {other}"))),
    }
}

/// A stage of a start that the plugin answered with an error.
pub(crate) fn refused(error: CallError, stage: &'static str, timeout: Duration) -> Failure {
    let code = match error.code.as_str() {
        "CONFIG_INVALID" => Code::ConfigInvalid,
        "TIMEOUT" => return late(stage, timeout),
        _ => Code::InitializationFailed,
    };
    let message = format!("the plugin refused at {stage}: {}: {}", error.code, error.message);
    Failure::new(code, message)
        .with("stage", stage)
        .with("pluginCode", error.code)
        .with("pluginDetails", error.details)
}

fn late(stage: &'static str, limit: Duration) -> Failure {
    Failure::new(
        Code::Timeout,
        format!(
            "the plugin did not answer at {stage} within {} ms; if it needs longer, raise \
             lifecycle.{stage}_timeout in its manifest",
            limit.as_millis()
        ),
    )
    .with("stage", stage)
    .with("budgetMs", limit.as_millis() as u64)
}

impl Process {
    /// Waits until this process is gone, all of it.
    pub(crate) async fn exited(&self) -> Arc<Exited> {
        exited(self.exits.clone(), self.generation).await
    }

    /// The end of a session as a failure. A session that just closed is most often a process that
    /// died: then that is the news.
    pub(crate) async fn explain(&self, end: EndReason, stage: &'static str) -> Failure {
        let violation = |violation: &Violation| {
            Failure::new(
                Code::ProtocolViolation,
                format!("the plugin broke the protocol at {stage}: {violation}"),
            )
            .with("stage", stage)
            .with("violation", violation.to_string())
        };
        match &end {
            EndReason::Violation(broken) => violation(broken),
            EndReason::VersionIncompatible { ours, theirs } => Failure::new(
                Code::VersionIncompatible,
                format!(
                    "the plugin speaks protocol {theirs}, this bulkhead {ours}; build it with an SDK \
                     of the same major version"
                ),
            )
            .with("what", "protocol")
            .with("required", ours.to_string())
            .with("found", theirs.to_string()),
            EndReason::HandshakeTimeout { limit } => Failure::new(
                Code::Timeout,
                format!(
                    "the plugin sent no hello within {} ms; does it link the SDK and call run()?",
                    limit.as_millis()
                ),
            )
            .with("stage", "handshake")
            .with("budgetMs", limit.as_millis() as u64),
            EndReason::SlowFrame { .. } | EndReason::PeerUnresponsive { .. } => {
                Failure::new(Code::Timeout, format!("at {stage}: {end}")).with("stage", stage)
            }
            _ => match exited_soon(self.exits.clone(), self.generation).await {
                Some(exited) => died(&exited, stage),
                None => Failure::new(
                    Code::ProtocolViolation,
                    format!("at {stage} the plugin gave up its session but did not exit: {end}"),
                )
                .with("stage", stage)
                .with("violation", end.to_string()),
            },
        }
    }
}

/// Waits for the exit of one start.
pub(crate) async fn exited(mut exits: Exits, generation: u64) -> Arc<Exited> {
    loop {
        if let Some(exit) = exits.borrow_and_update().as_ref()
            && exit.generation == generation
        {
            return Arc::clone(exit);
        }
        if exits.changed().await.is_err() {
            // The actor is gone, and with it whoever could wait here.
            std::future::pending::<()>().await;
        }
    }
}

/// The exit of a start whose session closed, unless that takes remarkably long.
pub(crate) async fn exited_soon(exits: Exits, generation: u64) -> Option<Arc<Exited>> {
    tokio::time::timeout(EXIT_AFTER_CLOSE, exited(exits, generation)).await.ok()
}

/// The plugin died at a stage of its start.
pub(super) fn died(exited: &Exited, stage: &str) -> Failure {
    let explanation = exited.exit.0.explain();
    let message = format!("the plugin died at {stage}: {explanation}");
    let failure = Failure::new(Code::InitializationFailed, message)
        .with("stage", stage)
        .with("exit", &exited.exit.0)
        .with("explanation", explanation);
    Barrier::explain_death(&exited.exit.0, failure)
}

/// Kills what the start has started and waits until it is gone.
async fn roll_back(
    context: &Context,
    plan: &StartPlan,
    exits: &ExitBoard,
    generation: u64,
) -> Ended {
    let launcher = &context.launcher;
    stop::arm(launcher, &plan.id, generation, Duration::ZERO, Duration::ZERO).await;
    let (gone, deadline) = (exited(exits.subscribe(), generation), Instant::now() + AFTER_KILL);
    let ended = gone_by(deadline, gone, launcher, &plan.id, generation).await;
    ended
        .inspect_err(|failure| {
            tracing::error!(plugin = %plan.id, generation, %failure, "a failed start is not gone");
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use bulkhead_sandbox::{Layer, Measured, Missing};
    use serde_json::json;

    use super::*;
    use crate::id::Digest;
    use crate::manifest::Manifest;
    use crate::supervise::store::PluginRow;

    /// A plugin that is expected to be exposed by little.
    fn plan() -> StartPlan {
        let text = "id = 'a'\nversion = '1.0.0'\n[sandbox]\nallow_syscalls = ['getrusage']";
        let manifest = Manifest::parse(text.as_bytes(), "x".as_ref()).unwrap();
        let row = PluginRow {
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            digest: Digest::of(b""),
            config: json!({}),
            enabled: true,
            installed_at: String::new(),
            last_exit: None,
            granted: None,
            last_usage: None,
            previous: None,
        };
        StartPlan::new(&row, &Arc::new(manifest), false)
    }

    /// A compartment in which seccomp was measured, to be in force or not.
    fn compartment(enforced: bool) -> Enforcement {
        let (layer, nothing) = (Layer::Seccomp, String::new);
        let missing = Missing { layer, why: nothing(), remedy: nothing(), stood_in_by: None };
        let missing = (!enforced).then_some(missing);
        let (asked, measured) = (nothing(), nothing());
        Enforcement { layers: vec![Measured { layer, asked, measured, enforced, missing }] }
    }

    #[test]
    fn a_compartment_that_turns_out_worse_than_the_bound_ends_the_start() {
        let plan = plan();
        let maximum = Exposure::expected(&plan.manifest, None).score;
        within_bound(&plan, &compartment(true), Some(maximum)).unwrap();
        let failure = within_bound(&plan, &compartment(false), Some(maximum)).unwrap_err();
        assert_eq!(failure.code, Code::ExposureTooHigh);
        assert_eq!(failure.details["measured"], true);
        assert_eq!(failure.details["reasons"][0]["name"], "seccomp", "{failure:?}");
        within_bound(&plan, &compartment(false), None).unwrap();
    }
}
