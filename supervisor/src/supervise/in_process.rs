//! The supervisor in this process, for the fuzz targets: with a store, two plugins that do not run, and a
//! launcher that has nothing and starts nothing. No part of the program itself.
#![allow(clippy::unwrap_used, reason = "what fails here is the machine's fault, and ends the run")]

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Request as HttpRequest, StatusCode, header};
use bulkhead_ipc_driver::{Handler as _, IncomingCall};
use bulkhead_ipc_protocol::{CallError, Payload};
use bulkhead_sandbox::descriptors::{recv_with_fds, send_with_fds};
use bulkhead_sandbox::floors::AllowedSources;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::api;
use super::archives::Archives;
use super::denials::Denials;
use super::events::Events;
use super::launcher_link::Launcher;
pub(crate) use super::logs::Record;
use super::logs::{self, Book, Rules, Source, Stream};
use super::plugin::{self, Context, Given, HostSide, StartPlan};
use super::registry::{self, LocalJob, Registry};
use super::schedule;
use super::store::{PluginRow, Store};
use crate::config::{AuditedCalls, Ceilings, Logs, Retention, Tracing};
use crate::failure::{Code, Failure};
use crate::id::Digest;
use crate::link::{
    self, Admission, Json, MAX_DESCRIPTORS, MAX_PACKET, Message, Numbered, Reply, Request,
    Settings, StorageUsage,
};
use crate::manifest::Manifest;

/// Nothing takes longer: what is not answered by then never is.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long is waited for more of an answer that may have no end.
const PAUSE: Duration = Duration::from_millis(1);

/// What it depends on, and who hears of it.
const PROVIDER: &str = r#"
id = "provider"
version = "1.0.0"
permissions = ["read:x"]
[provides.service]
version = "1.0.0"
[provides.service.methods]
open = {}
closed = { permission = "write:x" }
[events]
publishes = ["provider.told"]
subscribes = ["victim.*", "system.*"]
"#;

/// Whose messages are read, and whom requests are about: it may do what can be done without a process.
const VICTIM: &str = r#"
id = "victim"
version = "1.0.0"
permissions = ["read:x"]
[dependencies]
provider = "^1"
[limits]
storage = "64K"
[network]
hosts = ["127.0.0.1:9"]
[config.defaults]
a = 1
[[schedule]]
cron = "30 2 * * *"
timezone = "America/New_York"
method = "nightly"
[events]
publishes = ["victim.*"]
subscribes = ["provider.*", "system.*"]
"#;

/// An answer of the admin API, or as much of it as there was at once.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The body is all there.
    pub(crate) whole: bool,
}

/// The supervisor, as an admin and the plugin `victim` meet it.
pub(crate) struct InProcess {
    runtime: Runtime,
    local: LocalSet,
    registry: Arc<Registry>,
    api: TowerToHyperService<Router>,
    host: HostSide,
    _directory: TempDir,
}

impl InProcess {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = LocalSet::new();
        let settings = Arc::new(settings(&directory));
        let (registry, host) = local.block_on(&runtime, async {
            let registry = Arc::new(empty(&settings));
            tokio::task::spawn_local(schedule::run(Arc::clone(&registry)));
            let host = restored(&registry).await.unwrap();
            (registry, host)
        });
        let api = TowerToHyperService::new(api::of_an_admin(Arc::clone(&registry)));
        Self { runtime, local, registry, api, host, _directory: directory }
    }

    /// What an admin is answered.
    pub(crate) fn ask(&self, request: HttpRequest<Body>) -> Answer {
        self.run(async {
            let Ok(response) = self.api.call(request).await;
            let (parts, mut body) = response.into_parts();
            let kind = parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
            let endless = [&b"text/event-stream"[..], b"application/x-ndjson"];
            let endless = kind.is_some_and(|kind| endless.contains(&kind));
            let (mut whole, mut bytes) = (true, Vec::new());
            loop {
                let frame = if endless {
                    let Ok(frame) = tokio::time::timeout(PAUSE, body.frame()).await else {
                        whole = false;
                        break;
                    };
                    frame
                } else {
                    body.frame().await
                };
                let Some(frame) = frame else { break };
                if let Ok(data) = frame.unwrap().into_data() {
                    bytes.extend_from_slice(&data);
                }
            }
            // The request may have been that they go, and the next is about them as well.
            restored(&self.registry).await.unwrap();
            Answer { status: parts.status, headers: parts.headers, body: bytes.into(), whole }
        })
    }

    /// What the plugin is answered when it calls a method of its host's.
    pub(crate) fn call(&self, method: &str, payload: Payload) -> Result<Payload, CallError> {
        let call = IncomingCall {
            method: method.to_owned(),
            payload,
            deadline: None,
            trace: None,
            on_behalf_of: None,
            upload: None,
            download: None,
        };
        self.run(self.host.call(call))
    }

    /// The plugin tells its host of something; afterwards all of that is done.
    pub(crate) fn publish(&self, topic: &str, payload: Payload) {
        self.run(async {
            self.host.event(topic.to_owned(), payload);
            self.registry.events.flush().await;
        });
    }

    /// What plugins measure, as it would be shown of plugins that run.
    pub(crate) fn measured(&self) -> String {
        self.registry.metrics.measured_text()
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.local.block_on(&self.runtime, async {
            tokio::time::timeout(PATIENCE, work).await.expect("it is answered in time")
        })
    }
}

/// What becomes of a plugin's answer to the calls that its host makes by itself.
pub(crate) fn answered(reply: &Payload) -> Vec<Failure> {
    let init = plugin::init_reply(reply).map(|reply| drop(Payload::bincode(&reply).unwrap()));
    let configure = plugin::in_force(Ok(reply)).map(drop);
    [init, configure].into_iter().filter_map(Result::err).collect()
}

/// What becomes of a plugin's error, whatever it was asked for.
pub(crate) fn refused(error: &CallError) -> Vec<Failure> {
    let id = "victim".parse().unwrap();
    let mut failures = vec![
        plugin::refused(error.clone(), "init", PATIENCE),
        registry::refused(&id, "method", error.clone()),
    ];
    failures.extend(plugin::in_force(Err(error.clone())).err());
    failures
}

/// What becomes of what a plugin writes.
pub(crate) fn logged(bytes: &[u8]) -> Vec<Record> {
    let of = |stream| Source { stream, generation: 1 };
    [Stream::Stdout, Stream::Stderr].map(|stream| logs::records(bytes, of(stream))).concat()
}

fn settings(directory: &TempDir) -> Settings {
    let [state, store] = ["state", "store"].map(|name| directory.path().join(name));
    std::fs::create_dir(&state).unwrap();
    for manifest in [PROVIDER, VICTIM] {
        let tree = store.join(Digest::of(manifest.as_bytes()).to_string());
        std::fs::create_dir_all(&tree).unwrap();
        std::fs::write(tree.join("plugin.toml"), manifest).unwrap();
    }
    Settings {
        state,
        store,
        socket: directory.path().join("admin.sock"),
        strict: false,
        stop_timeout: Duration::from_secs(1),
        resume_timeout: Duration::from_secs(1),
        heartbeat: Duration::from_secs(1),
        usage_interval: Duration::from_secs(1),
        admin_gid: None,
        reader_gid: None,
        audited_calls: AuditedCalls::default(),
        retention: Retention::default(),
        logs: Logs::default(),
        tracing: Tracing::default(),
        launcher_uid: 0,
        advisories: None,
        sources: AllowedSources::default(),
        archives_limit: 1 << 20,
        admission: Admission::default(),
        limits: Ceilings::default(),
        started_ms: None,
        supervisor_starts: 1,
        machine: Value::Null,
    }
}

/// Without plugins.
fn empty(settings: &Arc<Settings>) -> Registry {
    let store = Store::open(&settings.state.join("bulkhead.db")).unwrap();
    let archives = Archives::open(settings.state.join("archives"), settings.archives_limit);
    let (local, mut jobs) = mpsc::unbounded_channel::<LocalJob>();
    tokio::task::spawn_local(async move {
        while let Some(job) = jobs.recv().await {
            job();
        }
    });
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    std::thread::spawn(move || refuse(&theirs));
    let launcher = Launcher::new(ours).unwrap();
    let listening = launcher.clone();
    tokio::task::spawn_local(async move { while listening.next().await.is_ok() {} });
    Registry::new(
        launcher,
        store.clone(),
        Events::new(store),
        Arc::clone(settings),
        archives.unwrap(),
        Denials::new(false),
        local,
    )
}

/// Installs those of the plugins that are not there. Returns the host as `victim` meets it.
async fn restored(registry: &Arc<Registry>) -> Result<HostSide, Failure> {
    let mut newest = None;
    for text in [PROVIDER, VICTIM] {
        let manifest = Arc::new(Manifest::parse(text.as_bytes(), "plugin.toml".as_ref())?);
        let row = PluginRow {
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            digest: Digest::of(text.as_bytes()),
            config: json!({}),
            enabled: false,
            installed_at: super::timestamp(),
            last_exit: None,
            granted: None,
            last_usage: None,
            previous: None,
        };
        if registry.find(&row.id).is_none() && registry.find_broken(&row.id).is_none() {
            registry.store.put_plugin(row.clone()).await?;
            registry.register(row.clone(), Arc::clone(&manifest), None).await?;
        }
        newest = Some((row, manifest));
    }
    let (row, manifest) = newest.expect("there are two");
    let directory = registry.settings.state.join("unread");
    let context = Context {
        id: row.id.clone(),
        launcher: registry.launcher.clone(),
        store: registry.store.clone(),
        events: registry.events.clone(),
        registry: Arc::clone(registry),
        settings: Arc::clone(&registry.settings),
        book: Book::open(&directory, Rules::default()).map_err(Failure::internal)?,
        given: Given::default(),
    };
    Ok(HostSide::new(&context, &StartPlan::new(&row, &manifest, false), 1))
}

/// The launcher: what it is asked for is not there, and what is to go has gone.
fn refuse(link: &OwnedFd) {
    while let Ok(packet) = recv_with_fds(link.as_fd(), MAX_PACKET, MAX_DESCRIPTORS) {
        let Numbered { number, request } = link::decode(&packet.data).unwrap();
        let result = match request {
            Request::Heartbeat | Request::Bye => continue,
            Request::Discard { .. }
            | Request::Release { .. }
            | Request::Acknowledge { .. }
            | Request::TrustRecorded { .. }
            | Request::Authorize { .. } => Ok(Reply::Done),
            Request::Measure { .. } => Ok(Reply::Measured(StorageUsage::default())),
            Request::NetworkDevices { .. } => Ok(Reply::NetworkDevices(None)),
            Request::Leases { .. } => Ok(Reply::Leases { leases: Vec::new(), more: false }),
            Request::AuditHead => Ok(Reply::AuditHead(None)),
            Request::TrustChange => Ok(Reply::TrustChange(None)),
            other => {
                let message = format!("there is no {other:?}");
                Err(Json(Failure::new(Code::NotFound, message)))
            }
        };
        let reply = Message::Reply { number, result: Box::new(result) };
        if send_with_fds(link.as_fd(), &link::encode(&reply).unwrap(), &[]).is_err() {
            return;
        }
    }
}
