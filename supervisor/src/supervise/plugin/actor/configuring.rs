//! A configuration that is replaced, of a plugin that rests or that runs.
//!
//! One that runs is asked first, over its session: it can refuse, and then everything stays as it
//! was. Only what it took, or will take at its next start, is kept.

use std::rc::Rc;

use bulkhead_ipc_protocol::{Call, CallError, CallFailure, Payload, lifecycle};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::super::Context;
use super::super::effective::Effective;
use super::super::machine::State;
use super::super::plan::{StartPlan, check_config};
use super::super::process::Process;
use super::{Actor, News};
use crate::failure::{Code, Failure};

/// When a new configuration is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Applied {
    /// The plugin has taken it.
    Now,
    /// Nothing runs: when the plugin is started.
    AtStart,
    /// The plugin does not take one while it runs: when it was disabled and enabled again.
    AtRestart,
    /// It was restarted for it.
    Restarted,
}

pub(crate) type ConfigureAnswer = oneshot::Sender<Result<Applied, Failure>>;

/// What a plugin that runs said to its new configuration.
pub(super) struct Asked {
    generation: u64,
    config: Value,
    answer: ConfigureAnswer,
    /// Whether it is in force.
    outcome: Result<bool, Failure>,
}

impl Actor {
    pub(super) async fn configure(&mut self, config: Value, answer: ConfigureAnswer) {
        let config = self.manifest.config.unredacted(config, &self.row.config);
        if let Err(failure) = self.accept_configure(&config) {
            let _ = answer.send(Err(failure));
            return;
        }
        let running = self.process.clone().filter(|_| self.machine.state() == State::Enabled);
        let Some(process) = running else {
            let kept = self.keep(config, Applied::AtStart).await;
            let _ = answer.send(kept);
            return;
        };
        self.configuring = true;
        let mut row = self.row.clone();
        row.config = config.clone();
        let plan = StartPlan::new(&row, &self.manifest, self.context.settings.strict);
        let (news, context) = (self.news.clone(), self.context.clone());
        tokio::task::spawn_local(async move {
            let outcome = ask(&context, &process, &plan).await;
            let generation = process.generation;
            // The actor is gone only when the service is.
            let _ = news.send(News::Configured(Asked { generation, config, answer, outcome }));
        });
    }

    fn accept_configure(&self, config: &Value) -> Result<(), Failure> {
        let state = self.machine.state();
        let busy = match state {
            State::Enabling(_) | State::Disabling => Some(state.name()),
            _ if self.configuring => Some("being configured"),
            _ => None,
        };
        if let Some(busy) = busy {
            let message = format!("{} is {busy}; try again when that is done", self.row.id);
            return Err(Failure::new(Code::Conflict, message).with("state", state.name()));
        }
        if !config.is_object() {
            let message = "the configuration must be an object";
            return Err(Failure::new(Code::ConfigInvalid, message).with("path", ""));
        }
        check_config(&self.manifest, config)
    }

    pub(super) async fn configured(&mut self, asked: Asked) {
        self.configuring = false;
        let Asked { generation, config, answer, outcome } = asked;
        let process = self.process.clone().filter(|process| process.generation == generation);
        let result = match (outcome, process) {
            (Err(failure), _) => Err(failure),
            (Ok(_), None) => {
                let message = format!("{} ended while it was configured; try again", self.row.id);
                Err(Failure::new(Code::Conflict, message)
                    .with("state", self.machine.state().name()))
            }
            (Ok(false), Some(_)) => self.keep(config, Applied::AtRestart).await,
            (Ok(true), Some(process)) => {
                let kept = self.keep(config, Applied::Now).await;
                if kept.is_err() {
                    self.take_back(process);
                }
                kept
            }
        };
        let _ = answer.send(result);
    }

    async fn keep(&mut self, config: Value, applied: Applied) -> Result<Applied, Failure> {
        self.context.store.set_config(self.row.id.clone(), config.clone()).await?;
        self.row.config = config;
        let body = json!({ "version": self.row.version.to_string(), "applied": applied });
        self.context.events.emit("plugin:configured", &self.row.id, body);
        if applied == Applied::AtRestart {
            let message = format!(
                "{} does not take a configuration while it runs; it has the new one once it was \
                 disabled and enabled again",
                self.row.id
            );
            let body = json!({ "code": "RESTART_NEEDED", "message": message });
            self.context.events.emit("plugin:warning", &self.row.id, body);
        }
        Ok(applied)
    }

    /// The plugin took what could not be kept: it is given the configuration before.
    fn take_back(&self, process: Rc<Process>) {
        let plan = StartPlan::new(&self.row, &self.manifest, self.context.settings.strict);
        let context = self.context.clone();
        tokio::task::spawn_local(async move {
            if let Err(failure) = ask(&context, &process, &plan).await {
                tracing::error!(
                    plugin = %plan.id, %failure,
                    "it runs with a configuration that is not kept, until its next start"
                );
            }
        });
    }
}

/// The stage of which a failure tells.
const STAGE: &str = "configure";

/// Whether a configuration is in force, by what the plugin answered to it.
pub(crate) fn in_force(answer: Result<&Payload, CallError>) -> Result<bool, Failure> {
    let error = match answer {
        Ok(reply) => {
            let reply: lifecycle::ConfigureReply = reply.decode_bincode().map_err(|e| {
                let message = format!("the reply to configure is malformed: {e}");
                Failure::new(Code::ProtocolViolation, message).with("stage", STAGE)
            })?;
            return Ok(reply.applied);
        }
        // It was built before there was such a method.
        Err(error) if error.code == "METHOD_UNKNOWN" => return Ok(false),
        Err(error) => error,
    };
    let code = match error.code.as_str() {
        "CONFIG_INVALID" => Code::ConfigInvalid,
        _ => Code::CallFailed,
    };
    let message = format!(
        "the plugin refused the configuration, and keeps the one before: {}: {}",
        error.code, error.message
    );
    Err(Failure::new(code, message)
        .with("stage", STAGE)
        .with("pluginCode", error.code)
        .with("pluginDetails", error.details))
}

/// Hands a plugin the configuration of `plan`; whether it is in force.
async fn ask(context: &Context, process: &Process, plan: &StartPlan) -> Result<bool, Failure> {
    let effective = plan.effective(&context.launcher).await?;
    context.given.add(process.generation, &effective.secrets);
    hand_over(process, plan, &effective).await.map_err(|failure| effective.secrets.mask(failure))
}

async fn hand_over(
    process: &Process,
    plan: &StartPlan,
    effective: &Effective,
) -> Result<bool, Failure> {
    let request = lifecycle::ConfigureRequest { config: effective.text.clone() };
    let payload = Payload::bincode(&request)
        .map_err(|e| Failure::internal(format!("a configuration cannot be encoded: {e}")))?;
    let limit = plan.timeouts.init;
    let call = Call::new(lifecycle::CONFIGURE, payload).with_timeout(limit);
    match process.peer.call(call).await {
        Ok(reply) => in_force(Ok(&reply)),
        Err(CallFailure::Remote(error)) => in_force(Err(error)),
        Err(CallFailure::Timeout { limit }) => Err(Failure::new(
            Code::Timeout,
            format!(
                "the plugin did not answer at {STAGE} within {} ms; if it needs longer, raise \
                 lifecycle.init_timeout in its manifest",
                limit.as_millis()
            ),
        )
        .with("stage", STAGE)
        .with("budgetMs", limit.as_millis() as u64)),
        Err(CallFailure::Ended(end)) => Err(process.explain(end, STAGE).await),
        Err(CallFailure::Draining) => {
            let message = format!("{} is being disabled; configure it when that is done", plan.id);
            Err(Failure::new(Code::Conflict, message).with("state", State::Disabling.name()))
        }
        Err(other) => Err(Failure::internal(format!("{STAGE} could not be asked for: {other}"))),
    }
}
