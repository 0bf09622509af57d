//! `bulkhead run`: plugins from their directories or packages, in the foreground.
//!
//! Theory of operation. The same roles as under systemd: `bulkhead serve` is started as a child,
//! with a configuration of its own in a temporary directory, in a scope of its own where there is a
//! systemd to delegate one, and in its own process group, so that Ctrl-C is ours to answer. Then
//! this process is a client like any other: it installs, enables in the order of the dependencies,
//! shows the logs, and at a signal disables in the opposite order, ends the service and removes the
//! directory. If this process is killed, the kernel tells the service to end (PR_SET_PDEATHSIG).

mod packages;
mod plan;
mod service;
mod story;
mod tail;

use std::path::Path;
use std::process::ExitCode;

use hyper::Method;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

pub(super) use self::packages::{open, unpacked};
pub(super) use self::plan::Plan;
pub(super) use self::service::{Scratch, Service};
use self::story::Story;
use super::args::{Global, Run};
use super::client::{Ask, Client};
use super::problem::Problem;
use super::{Ended, block_on, finish, install, verbs};
use crate::failure::Code;
use crate::id::PluginId;
use crate::supervise::timestamp;

pub(super) fn run(arguments: &Run, global: &Global) -> ExitCode {
    finish(block_on(whole(arguments, global)), global.json)
}

async fn whole(arguments: &Run, global: &Global) -> Result<(), Ended> {
    let mut interrupts = Interrupts::new()?;
    session(arguments, global, &mut interrupts, std::future::pending::<()>()).await?;
    Ok(())
}

/// Runs the plugins until `until` is over, whose outcome is returned; or until somebody interrupts,
/// which gives nothing. Whichever it is, nothing of them is left then.
pub(super) async fn session<T>(
    arguments: &Run,
    global: &Global,
    interrupts: &mut Interrupts,
    until: impl Future<Output = T>,
) -> Result<Option<T>, Ended> {
    // Removed at the end of this function, when nothing runs from it any more.
    let opened = open(&arguments.paths)?;
    let plan = Plan::of(&opened.directories, &arguments.config)?;
    let mut story = Story::new(global.json);
    let mut service = Service::prepare(arguments, global, &plan)?;
    let mut up = Vec::new();
    let told = tokio::select! {
        told = up_and_running(&plan, &mut service, &mut story, &mut up) => told.map(|()| None),
        () = interrupts.next() => Ok(None),
        outcome = until => Ok(Some(outcome)),
    };
    if told.is_ok() || service.is_running() {
        tokio::select! {
            () = down(&up, &service, &mut story) => {}
            () = interrupts.next() => Story::hurried(),
        }
    }
    let ended = service.end(interrupts).await;
    let outcome = told?;
    ended?;
    Ok(outcome)
}

/// Till the service dies or a plugin cannot be brought up. What is up is in `up`.
async fn up_and_running(
    plan: &Plan,
    service: &mut Service,
    story: &mut Story,
    up: &mut Vec<PluginId>,
) -> Result<(), Ended> {
    let begun = timestamp();
    service.start()?;
    service.ready().await?;
    for step in &plan.steps {
        let id = &step.manifest.id;
        bring(&service.client, id, &step.directory).await?;
        // Before the call: one that is cut short may have been done all the same.
        up.push(id.clone());
        match verbs::enable_with(&service.client, id, step.config.clone()).await {
            Ok(reply) => story.enabled(&reply)?,
            Err(problem) => {
                up.pop();
                return Err(problem.into());
            }
        }
    }
    story.ready(service.client.socket(), up)?;
    let (sender, mut news) = mpsc::channel(256);
    tokio::spawn(tail::deaths(service.client.clone(), begun, sender.clone()));
    for id in up.iter() {
        tokio::spawn(tail::follow(service.client.clone(), id.clone(), sender.clone()));
    }
    loop {
        tokio::select! {
            Some(news) = news.recv() => match news {
                tail::News::Record(id, record) => story.record(&id, &record, up.len() > 1)?,
                tail::News::Death(event) => story.death(&event)?,
            },
            status = service.ended() => return Err(died(&status).into()),
        }
    }
}

/// Installs a plugin; one that a kept state has with another content is replaced, whatever its version.
pub(super) async fn bring(client: &Client, id: &PluginId, directory: &Path) -> Result<(), Problem> {
    let word = install::own_word();
    match install::directory(client, install::PLUGINS, directory, word.clone()).await {
        Err(problem) if problem.code == Code::AlreadyExists.to_string() => {}
        told => return told.map(|_| ()),
    }
    let mut options = word;
    options.insert("allowDowngrade".to_owned(), json!(true));
    let to = format!("{}/{id}/upgrade", install::PLUGINS);
    install::directory(client, &to, directory, options).await.map(|_| ())
}

/// Disables what is up, dependents first. What fails is said, and the rest goes on.
async fn down(up: &[PluginId], service: &Service, story: &mut Story) {
    for id in up.iter().rev() {
        let ask = Ask::new(Method::POST, format!("/v1/plugins/{id}/disable"));
        let told = match service.client.json(ask.body(&json!({ "saveState": true }))).await {
            Ok(reply) => story.disabled(&reply),
            Err(problem) => story.not_disabled(id, &problem),
        };
        // The screen may be gone; the plugins must stop all the same.
        drop(told);
    }
}

fn died(status: &str) -> Problem {
    Problem::new(
        Code::Internal,
        format!("the service ended by itself ({status}); what it said is above"),
    )
}

/// What asks this process to end.
pub(super) struct Interrupts {
    signals: [Signal; 3],
}

impl Interrupts {
    pub(super) fn new() -> Result<Self, Problem> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Problem::new(Code::Internal, format!("signals cannot be waited for: {error}"))
            })
        };
        let signals = [
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ];
        Ok(Self { signals })
    }

    pub(super) async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
