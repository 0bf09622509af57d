//! The messages of the link.

use std::path::PathBuf;
use std::time::Duration;

use bulkhead_sandbox::floors::AllowedSources;
use bulkhead_sandbox::quota::Quota;
use bulkhead_sandbox::{Enforcement, Exit, Policy};
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::audit_chain::Head;
use crate::clock::Monotonic;
use crate::config::{AuditedCalls, Ceilings, Logs, Retention, Tracing};
use crate::exposure::Score;
use crate::failure::Failure;
use crate::id::{Digest, PluginId};
use crate::trust::{Change, KeyId};

/// Numbers the supervisor's requests; the reply carries the same number.
pub(crate) type RequestNumber = u64;

/// What the supervisor sends: a request and its number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Numbered {
    /// Never used twice on one link.
    pub(crate) number: RequestNumber,
    pub(crate) request: Request,
}

/// Supervisor → launcher.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The supervisor's loop turns. Sent every [`Settings::heartbeat`]; a supervisor that is silent
    /// for five times as long is killed and started again. Not answered.
    Heartbeat,
    /// The admin API answers and all that ran is adopted: the service is up. → [`Reply::Done`]
    Ready,
    /// Copies a plugin's directory into the store. The directory must have a `plugin.toml`, and
    /// the launcher's own configuration must allow unsigned directories. → [`Reply::Imported`]
    Import { source: PathBuf },
    /// Opens a package into the store, if a trusted key has signed it. With one descriptor: the
    /// package, a regular file on the file system of [`Settings::state`]; `signature` is the text of
    /// its minisign signature. Which plugins the key may sign is for [`Request::Authorize`] to ask.
    /// → [`Reply::Imported`], or [`Reply::Unopened`]
    ImportPackage { signature: String },
    /// Whether a tree may run as this plugin by the keys that are trusted now. The launcher asks
    /// itself again at each start. → [`Reply::Done`]
    Authorize { id: PluginId, digest: Digest },
    /// Removes a tree that no plugin uses any more. → [`Reply::Done`]
    Discard { digest: Digest },
    /// Storage and a uid for a plugin: those it has, or new ones. → [`Reply::Allotted`]
    Allot { id: PluginId },
    /// Removes the storage and gives the uid back. Refused while the plugin runs. → [`Reply::Done`]
    Release { id: PluginId },
    /// Counts what the plugin's storage takes, and looks what the file system bounds it to. → [`Reply::Measured`]
    Measure { id: PluginId },
    /// What went over the network devices of a plugin that runs. → [`Reply::NetworkDevices`]
    NetworkDevices { id: PluginId },
    /// The storage that there is, in the order of the ids, beginning after one: a bounded number.
    /// → [`Reply::Leases`]
    Leases { after: Option<PluginId> },
    /// Writes a plugin's data as a stream (`bulkhead archive-data`) of at most `limit` bytes to the
    /// descriptor that comes along: a regular file on the file system of [`Settings::state`]. Refused
    /// while the plugin runs. → [`Reply::Done`]
    SaveData { id: PluginId, limit: u64 },
    /// Makes a plugin's data from such a stream, which comes along as a descriptor. Its data must be
    /// empty. Refused while the plugin runs. → [`Reply::Done`]
    RestoreData { id: PluginId },
    /// Starts a plugin. → [`Reply::Spawned`] with three descriptors: session, standard output,
    /// standard error (read ends).
    Spawn(Box<Spawn>),
    /// A new session for a plugin that runs: one end goes to the plugin's bootstrap socket.
    /// → [`Reply::Done`] with one descriptor.
    Session { id: PluginId, generation: u64 },
    /// Gives the plugin a TCP connection, which comes along as a descriptor, through its bootstrap
    /// socket. → [`Reply::Done`]
    Connection { id: PluginId, generation: u64, token: u64 },
    /// Arms the stop: SIGTERM after `term_in`, SIGKILL to the whole cgroup after `kill_in`, both
    /// from now and within [`super::LONGEST_STOP`]. A later `Stop` can bring either forward, never put it off,
    /// so that a guarantee once given holds. Answered at once → [`Reply::Done`]; [`Message::Exited`] tells the end.
    Stop { id: PluginId, generation: u64, term_in: Duration, kill_in: Duration },
    /// The exit is in the supervisor's store; the launcher may forget it. → [`Reply::Done`]
    Acknowledge { id: PluginId, generation: u64 },
    /// The head of the audit as the launcher keeps it. → [`Reply::AuditHead`]
    AuditHead,
    /// Moves that head on from `after`, which it must be unless none is kept, by rows of these
    /// bodies (see [`crate::audit_chain`]). → [`Reply::AuditHead`]
    Anchor { after: Head, bodies: Vec<Digest> },
    /// What was done to the trust store and is not in the audit yet: the first of it.
    /// → [`Reply::TrustChange`]
    TrustChange,
    /// The change of that number is in the audit. → [`Reply::Done`]
    TrustRecorded { number: u64 },
    /// A credential of the service, for a plugin's configuration. → [`Reply::Credential`]
    Credential { name: String },
    /// The supervisor has stopped all it could and is about to end. Not answered.
    Bye,
}

impl Request {
    /// How many descriptors come with it.
    pub(crate) fn descriptors(&self) -> usize {
        usize::from(matches!(
            self,
            Request::ImportPackage { .. }
                | Request::SaveData { .. }
                | Request::RestoreData { .. }
                | Request::Connection { .. }
        ))
    }
}

/// What to start, and in what compartment. The launcher decides uid, storage and the mounts of
/// `/plugin` and `/data` itself, and checks the rest against its floors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spawn {
    pub(crate) id: PluginId,
    /// The tree in the store.
    pub(crate) digest: Digest,
    /// The binary, relative to the tree, for example `bin/scheduler`.
    pub(crate) entry: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) policy: Json<Policy>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Imported {
        digest: Digest,
        root: PathBuf,
        /// `None`: it was copied from a directory.
        signer: Option<Signer>,
    },
    /// What is signed is not a package: what `bulkhead unpack` said of it, a [`Failure`] as JSON if
    /// it is to be believed. The launcher has not read it.
    Unopened {
        report: Vec<u8>,
    },
    Allotted {
        uid: u32,
        data: PathBuf,
    },
    Measured(StorageUsage),
    /// `/proc/PID/net/dev`, which the launcher has not read; `None` where it cannot be had. The launcher sees
    /// every compartment's processes, and the supervisor under systemd's ProtectProc= does not.
    NetworkDevices(Option<String>),
    Leases {
        leases: Vec<Lease>,
        /// There are others after the last of these.
        more: bool,
    },
    Spawned(Spawned),
    AuditHead(Option<Head>),
    TrustChange(Option<(u64, Box<Json<Change>>)>),
    Credential(Hidden),
}

/// What a plugin's storage takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StorageUsage {
    /// On disk. A file that has several names counts for each.
    pub(crate) bytes: u64,
    /// Files and directories, its root included.
    pub(crate) files: u64,
    /// There are directories in which was not counted: nested too deep, or, without privilege, closed
    /// by the plugin.
    pub(crate) uncounted: bool,
    /// What the file system lets the plugin's uid keep, as that uid was told by the kernel; `None`: it
    /// enforces no quotas, or all plugins are one user.
    pub(crate) quota: Option<Quota>,
}

/// The storage of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) id: PluginId,
    /// The plugin has put nothing there.
    pub(crate) empty: bool,
}

/// Who has signed a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signer {
    pub(crate) key: KeyId,
    /// What root noted about the key.
    pub(crate) comment: Option<String>,
}

/// A plugin that was started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spawned {
    /// Tells this start from every other, of this launcher and of those before it: the first is
    /// the launcher's start in milliseconds since the epoch, each further one is one more.
    pub(crate) generation: u64,
    /// Of the compartment's init, in the launcher's pid namespace. For people; signals go by
    /// descriptor.
    pub(crate) pid: i32,
    /// Its own where there is privilege, else the invoker's.
    pub(crate) uid: u32,
    pub(crate) started: Monotonic,
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) enforcement: Json<Enforcement>,
}

/// Launcher → supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// The first packet. With the admin listener, and the kernel's audit stream where it may be read.
    Welcome(Box<Json<Settings>>),
    /// A plugin that runs since before this supervisor. With the same three descriptors as
    /// [`Reply::Spawned`]; the session is a new one.
    Adopt(Box<Adopted>),
    /// All that ran has been told; from here on it is news.
    Current,
    Reply {
        number: RequestNumber,
        result: Box<Result<Reply, Json<Failure>>>,
    },
    /// A plugin is gone, all of it. Sent again to the next supervisor until it is acknowledged.
    /// With two descriptors, the read ends of its standard output and error: what it wrote last
    /// may still be in them.
    Exited(Box<Exited>),
    /// The service must stop: every plugin within `budget` from now, then [`Request::Bye`]. The
    /// launcher kills what is left at the end of it.
    Shutdown {
        budget: Duration,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Adopted {
    pub(crate) id: PluginId,
    pub(crate) digest: Digest,
    pub(crate) spawned: Spawned,
    /// The places of the machine that it was started with, as [`Spawn::policy`] named them.
    pub(crate) places: Vec<PathBuf>,
    /// A stop is under way: the plugin will be gone at its deadline, whatever happens here.
    pub(crate) stopping: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Exited {
    pub(crate) id: PluginId,
    pub(crate) digest: Digest,
    pub(crate) generation: u64,
    pub(crate) uid: u32,
    pub(crate) exit: Json<Exit>,
    /// What the launcher did and saw, in order.
    pub(crate) stages: Vec<Stage>,
}

/// A moment of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stage {
    pub(crate) name: StageName,
    pub(crate) at: Monotonic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StageName {
    /// The plugin was asked to finish what it does (supervisor).
    Drain,
    /// Its state is saved (supervisor).
    Saved,
    /// It said goodbye (supervisor).
    Goodbye,
    /// SIGTERM was sent (launcher).
    Sigterm,
    /// SIGKILL was sent to the whole cgroup (launcher).
    Sigkill,
    /// The plugin's main process ended (launcher).
    Exited,
    /// No process is left in its cgroup (launcher).
    Empty,
    /// Its cgroup is removed (launcher).
    Removed,
}

/// What the launcher's configuration says that the supervisor needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Where the supervisor keeps its store and the logs; its own directory.
    pub(crate) state: PathBuf,
    /// Where the launcher keeps the plugin trees, to read manifests from.
    pub(crate) store: PathBuf,
    /// The path of the admin socket, for messages.
    pub(crate) socket: PathBuf,
    pub(crate) strict: bool,
    /// The whole budget of a stop where the request does not say.
    pub(crate) stop_timeout: Duration,
    /// How long a plugin waits for a supervisor that is away.
    pub(crate) resume_timeout: Duration,
    pub(crate) heartbeat: Duration,
    /// How often what each plugin uses is told.
    pub(crate) usage_interval: Duration,
    /// Group ids whose members may do all, or read, on the admin socket. The launcher's own user
    /// and root may always do all.
    pub(crate) admin_gid: Option<u32>,
    pub(crate) reader_gid: Option<u32>,
    pub(crate) audited_calls: AuditedCalls,
    pub(crate) retention: Retention,
    pub(crate) logs: Logs,
    pub(crate) tracing: Tracing,
    pub(crate) launcher_uid: u32,
    /// Where known faults of crates are looked up.
    pub(crate) advisories: Option<Advisories>,
    /// What a plugin may be shown of this machine besides the system (`[mounts]`): its libraries are looked for there.
    pub(crate) sources: AllowedSources,
    /// Bytes that all archives may take together.
    pub(crate) archives_limit: u64,
    /// What plugins may be promised together.
    pub(crate) admission: Admission,
    /// What one plugin can have at most.
    #[serde(default)]
    pub(crate) limits: Ceilings,
    /// When the launcher started, in milliseconds since the epoch.
    #[serde(default)]
    pub(crate) started_ms: Option<u64>,
    /// How many supervisors it has started, this one included.
    #[serde(default)]
    pub(crate) supervisor_starts: u64,
    /// What this machine enforces, as `doctor` shows it.
    pub(crate) machine: serde_json::Value,
}

/// What plugins may be promised together; what is not said is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Admission {
    /// Bytes.
    pub(crate) memory: Option<u64>,
    pub(crate) pids: Option<u64>,
    /// Of each plugin; no bound, if it is not said.
    #[serde(default)]
    pub(crate) max_exposure: Option<Score>,
}

/// A local copy of an advisory database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Advisories {
    pub(crate) path: PathBuf,
    /// Whether a finding refuses the installation, or is only told.
    pub(crate) refuse: bool,
}

/// Text that no message of ours shows.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Hidden(pub(crate) String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A value that crosses as JSON text: types whose serde form needs a self-describing format.
#[derive(Clone, Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> Serialize for Json<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&serde_json::to_string(&self.0).map_err(S::Error::custom)?)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Json<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text).map(Self).map_err(D::Error::custom)
    }
}
