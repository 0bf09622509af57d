//! `bulkhead.toml`: what the administrator decides about the service.
//!
//! ```toml
//! mode = "strict"
//! admin_group = "bulkhead"
//! stop_timeout = "5s"
//!
//! [mounts]
//! read_only = ["/srv/terminology"]
//! ```
//! Every field has a default, so that an empty file, or none, is a service that works. The file is
//! read by the launcher, which has privilege: it must belong to root (or to the invoking user) and
//! nobody else may write it. A plugin or a client of the API never has a say in it.

mod ceilings;
mod endpoint;

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read as _};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use crate::exposure::Score;
use crate::failure::{Code, Failure};
use crate::manifest::{ByteSize, MAX_STOP, TimeSpan};

pub(crate) use ceilings::Ceilings;
pub(crate) use endpoint::OtlpEndpoint;

/// Where the file is looked for when none is named.
const SYSTEM_FILE: &str = "/etc/bulkhead/bulkhead.toml";
const MAX_BYTES: u64 = 64 * 1024;
/// In seconds.
const HOUR: u32 = 3600;
const DAY: u32 = 24 * HOUR;

/// The service's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Packages, the plugins' storage and the supervisor's store. `/var/lib/bulkhead`; without
    /// privilege `$XDG_STATE_HOME/bulkhead`.
    pub(crate) state: PathBuf,
    /// Directory of the admin socket. `/run/bulkhead`; without privilege
    /// `$XDG_RUNTIME_DIR/bulkhead`.
    pub(crate) runtime: PathBuf,
    /// The admin socket, where it is not `admin.sock` in `runtime`.
    pub(crate) socket: Option<PathBuf>,
    /// What happens where this machine lacks a layer of the compartment.
    pub(crate) mode: Mode,
    /// The supervisor's user: a name or a uid. `bulkhead` if there is such a user, else the first
    /// uid of the range. Without privilege everything runs as the invoking user.
    pub(crate) user: Option<String>,
    /// Members of this group (a name or a gid) may do all on the admin socket. Root and the
    /// launcher's own user always may.
    pub(crate) admin_group: Option<String>,
    /// Members of this group may read there.
    pub(crate) reader_group: Option<String>,
    /// The uids that plugins are given, one each; used by nothing else on this machine.
    pub(crate) uids: Uids,
    /// Whether a plugin can be installed from a directory, which nobody has signed.
    pub(crate) allow_directories: bool,
    /// A local copy of the RustSec advisory database, against which the crates of a plugin are held
    /// when it is installed. The supervisor's user must be able to read it.
    pub(crate) advisories: Option<PathBuf>,
    /// What happens where a plugin has a crate with a known fault.
    pub(crate) advisories_policy: AdvisoriesPolicy,
    /// The keys that may sign plugins: `bulkhead trust`. `/etc/bulkhead/trust`; without privilege
    /// `$XDG_CONFIG_HOME/bulkhead/trust`.
    pub(crate) trust: PathBuf,
    /// What is kept, and how much of it.
    pub(crate) retention: Retention,
    /// What plugins may write to their logs.
    pub(crate) logs: Logs,
    /// To whom spans are told.
    pub(crate) tracing: Tracing,
    /// What all plugins that are enabled may use together.
    pub(crate) admission: Admission,
    /// What one plugin can have at most.
    pub(crate) limits: Ceilings,
    /// What plugins may be shown of this machine beyond its system directories.
    pub(crate) mounts: Mounts,
    /// What the audit has beyond operations, refusals and deaths, which it always has.
    pub(crate) audit: Audit,
    /// The whole budget of a stop, from the request to the last process gone, where the request
    /// does not say; also that of the service's own stop. 100 ms to 1 h.
    pub(crate) stop_timeout: TimeSpan,
    /// How long plugins go on without a supervisor before they are stopped. 1 s to 1 h.
    pub(crate) resume_timeout: TimeSpan,
    /// How often the supervisor shows that it is alive; silent for five times as long, it is
    /// started anew. 50 ms to 1 min.
    pub(crate) heartbeat: TimeSpan,
    /// How often what each plugin uses is told as `plugin:resource:usage`. 100 ms to 1 h.
    pub(crate) usage_interval: TimeSpan,
    /// The supervisor's program and arguments where it is not this program's own role. For tests.
    #[serde(skip)]
    pub(crate) supervisor_command: Option<Vec<OsString>>,
    /// The arguments of this program's role that opens packages, and its time. For tests.
    #[serde(skip)]
    pub(crate) unpack_arguments: Option<Vec<String>>,
    #[serde(skip)]
    pub(crate) unpack_within: Option<Duration>,
}

/// What happens where this machine lacks a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// No plugin starts, and the error names the layer.
    #[default]
    Strict,
    /// Plugins start with what there is, and what is missing is said.
    BestEffort,
}

/// What happens where a plugin has a crate with a known fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AdvisoriesPolicy {
    /// It is told, and the plugin is installed.
    #[default]
    Warn,
    /// The plugin is not installed.
    Refuse,
}

/// The uids of commands that root runs with `bulkhead exec`: the first and the command's process id, of which the kernel
/// has no more than this (PID_MAX_LIMIT). Unused in systemd's table (UIDS-GIDS), and never those of plugins.
pub(crate) const EXEC_UIDS: Range<u32> = 1_900_100_000..1_900_100_000 + (1 << 22);

/// A range of uids, each of them also a gid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Uids {
    pub(crate) first: u32,
    /// The first is the supervisor's where it has no user of its own.
    pub(crate) count: u32,
}

impl Uids {
    /// Those that plugins are given.
    pub(crate) fn of_plugins(self) -> Range<u32> {
        self.first + 1..self.first + self.count
    }
}

impl Default for Uids {
    fn default() -> Self {
        // Unused in systemd's table of uid ranges (UIDS-GIDS).
        Self { first: 1_900_000_000, count: 10_000 }
    }
}

/// What all plugins that are enabled may use together, by the sum of their limits. What is not said
/// is nine tenths of what the machine, or the service's cgroup, has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Admission {
    pub(crate) memory: Option<ByteSize>,
    pub(crate) pids: Option<u64>,
    /// The highest exposure that a plugin may have; any, if it is not said.
    pub(crate) max_exposure: Option<Score>,
}

impl Admission {
    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        self.memory.map(ByteSize::bytes)
    }
}

/// Directories of this machine that a plugin's grant can name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mounts {
    /// These and what is beneath them, read-only.
    pub(crate) read_only: Vec<PathBuf>,
    /// These and what is beneath them, also writable.
    pub(crate) read_write: Vec<PathBuf>,
}

/// What is kept, how long, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Retention {
    /// Events. At least 1m.
    pub(crate) events: TimeSpan,
    /// The bodies of all events together.
    pub(crate) events_bytes: ByteSize,
    /// Rows of the audit. At least 1m.
    pub(crate) audit: TimeSpan,
    /// How many of them. At least 1000.
    pub(crate) audit_rows: u64,
    /// What the archives of uninstalled plugins take together. One more than that is refused; none
    /// is removed but by an operator.
    pub(crate) archives: ByteSize,
    /// What each plugin used, in rows of a minute. 1h to 7d.
    pub(crate) usage_1m: TimeSpan,
    /// The same, in rows of a quarter of an hour. 1d to 400d.
    pub(crate) usage_15m: TimeSpan,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events: TimeSpan::from_secs(30 * DAY),
            events_bytes: ByteSize::new(64 << 20),
            audit: TimeSpan::from_secs(400 * DAY),
            audit_rows: 1_000_000,
            archives: ByteSize::new(1 << 30),
            usage_1m: TimeSpan::from_secs(DAY),
            usage_15m: TimeSpan::from_secs(30 * DAY),
        }
    }
}

impl Retention {
    pub(crate) fn archives_bytes(&self) -> u64 {
        self.archives.bytes()
    }
}

/// What a plugin may write to its log, standard output and error together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Logs {
    /// In each second; five times as many at once. What is beyond is dropped and counted. At least 10.
    pub(crate) lines_per_second: u32,
    /// The same in bytes. At least 16K.
    pub(crate) bytes_per_second: ByteSize,
    /// Whether it goes to systemd's journal as well.
    pub(crate) journald: Journald,
}

/// Whether what plugins write goes to systemd's journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Journald {
    /// Where the service's own output goes there.
    #[default]
    Auto,
    On,
    Off,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            lines_per_second: 1000,
            bytes_per_second: ByteSize::new(1 << 20),
            journald: Journald::Auto,
        }
    }
}

/// To whom the spans of calls are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tracing {
    /// A collector that takes OTLP over HTTP, in JSON. None: to nobody.
    pub(crate) otlp_endpoint: Option<OtlpEndpoint>,
    /// How often. At least 100 ms.
    pub(crate) otlp_interval: TimeSpan,
}

impl Default for Tracing {
    fn default() -> Self {
        Self { otlp_endpoint: None, otlp_interval: TimeSpan::from_secs(5) }
    }
}

/// What the audit has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Audit {
    /// Which calls of the host application: never with what was asked or answered.
    pub(crate) calls: AuditedCalls,
}

/// Which calls through the admin API, and by schedules, are in the audit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AuditedCalls {
    Off,
    /// Those with the header `bulkhead-on-behalf-of`.
    #[default]
    OnBehalfOf,
    All,
}

impl AuditedCalls {
    /// Whether a call is in the audit that is made for this person, or for nobody.
    pub(crate) fn include(self, on_behalf_of: Option<&str>) -> bool {
        match self {
            Self::Off => false,
            Self::OnBehalfOf => on_behalf_of.is_some(),
            Self::All => true,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let (state, runtime, trust) = if geteuid().is_root() {
            ("/var/lib/bulkhead".into(), "/run/bulkhead".into(), "/etc/bulkhead/trust".into())
        } else {
            (home("XDG_STATE_HOME", ".local/state"), runtime_directory(), of_user().join("trust"))
        };
        Self {
            state,
            runtime,
            socket: None,
            mode: Mode::Strict,
            user: None,
            admin_group: None,
            reader_group: None,
            uids: Uids::default(),
            allow_directories: false,
            advisories: None,
            advisories_policy: AdvisoriesPolicy::Warn,
            trust,
            admission: Admission::default(),
            limits: Ceilings::default(),
            mounts: Mounts::default(),
            audit: Audit::default(),
            retention: Retention::default(),
            logs: Logs::default(),
            tracing: Tracing::default(),
            stop_timeout: TimeSpan::from_secs(5),
            resume_timeout: TimeSpan::from_secs(30),
            heartbeat: TimeSpan::from_secs(1),
            usage_interval: TimeSpan::from_secs(10),
            supervisor_command: None,
            unpack_arguments: None,
            unpack_within: None,
        }
    }
}

/// `$variable/bulkhead`, else `$HOME/otherwise/bulkhead`.
/// Where a user's own files of configuration are.
pub(crate) fn of_user() -> PathBuf {
    home("XDG_CONFIG_HOME", ".config")
}

fn home(variable: &str, otherwise: &str) -> PathBuf {
    let base = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    base.unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(otherwise)
    })
    .join("bulkhead")
}

fn runtime_directory() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(path) if path.is_absolute() => path.join("bulkhead"),
        // A path in /tmp that somebody else has taken is refused when it is opened.
        _ => PathBuf::from(format!("/tmp/bulkhead-{}", geteuid())),
    }
}

impl Config {
    /// Reads `path`; without one the usual file, which need not exist.
    ///
    /// NOT_FOUND: `path` does not exist. CONFIG_INVALID: the file is not what it must be; details
    /// `path`, and `line` and `column` where known.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, Failure> {
        let (path, required) = match path {
            Some(path) => (path.to_owned(), true),
            None if geteuid().is_root() => (PathBuf::from(SYSTEM_FILE), false),
            None => (home("XDG_CONFIG_HOME", ".config").join("bulkhead.toml"), false),
        };
        match read_ours(&path)? {
            Some(text) => Self::parse(&text, &path),
            None if required => {
                let message = format!("there is no configuration {}", path.display());
                Err(Failure::new(Code::NotFound, message)
                    .with("what", "configuration")
                    .with("name", &path))
            }
            None => Ok(Self::default()),
        }
    }

    /// Parses the text of a configuration; `path` is for messages.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        let config: Self = toml::from_str(text).map_err(|error| located(&error, text, path))?;
        config
            .check()
            .map_err(|message| invalid(path, format!("{}: {message}", path.display())))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let paths = [("state", &self.state), ("runtime", &self.runtime), ("trust", &self.trust)]
            .into_iter()
            .chain(self.socket.iter().map(|path| ("socket", path)))
            .chain(self.advisories.iter().map(|path| ("advisories", path)))
            .chain(self.mounts.read_only.iter().map(|path| ("mounts.read_only", path)))
            .chain(self.mounts.read_write.iter().map(|path| ("mounts.read_write", path)));
        for (field, path) in paths {
            if !path.is_absolute() {
                return Err(format!("{field}: {} must be an absolute path", path.display()));
            }
        }
        let spans = [
            ("stop_timeout", self.stop_timeout, 100, MAX_STOP.millis()),
            ("resume_timeout", self.resume_timeout, 1000, 3_600_000),
            ("heartbeat", self.heartbeat, 50, 60_000),
            ("usage_interval", self.usage_interval, 100, 3_600_000),
        ];
        for (field, span, least, most) in spans {
            if !(least..=most).contains(&span.millis()) {
                return Err(format!("{field}: {span} must be from {least}ms to {most}ms"));
            }
        }
        let Retention { events, audit, audit_rows, usage_1m, usage_15m, .. } = self.retention;
        for (field, span) in [("events", events), ("audit", audit)] {
            if span.millis() < 60_000 {
                return Err(format!("retention.{field}: {span} must be at least 1m"));
            }
        }
        for (field, span, least, most) in
            [("usage_1m", usage_1m, HOUR, 7 * DAY), ("usage_15m", usage_15m, DAY, 400 * DAY)]
        {
            let (least, most) = (TimeSpan::from_secs(least), TimeSpan::from_secs(most));
            if !(least..=most).contains(&span) {
                return Err(format!("retention.{field}: {span} must be from {least} to {most}"));
            }
        }
        if audit_rows < 1000 {
            return Err(format!("retention.audit_rows: {audit_rows} must be at least 1000"));
        }
        let Logs { lines_per_second, bytes_per_second, journald: _ } = self.logs;
        if lines_per_second < 10 {
            return Err(format!("logs.lines_per_second: {lines_per_second} must be at least 10"));
        }
        if bytes_per_second.bytes() < 16 << 10 {
            return Err(format!("logs.bytes_per_second: {bytes_per_second} must be at least 16K"));
        }
        let pace = self.tracing.otlp_interval;
        if pace.duration() < Duration::from_millis(100) {
            return Err(format!("tracing.otlp_interval: {pace} must be at least 100ms"));
        }
        self.limits.check().map_err(|(field, why)| format!("limits.{field}: {why}"))?;
        let Uids { first, count } = self.uids;
        if first < 1000 || count < 2 || first.checked_add(count).is_none() {
            return Err(format!(
                "uids: {count} from {first}: there must be at least 2, none below 1000 or above 4294967294"
            ));
        }
        let Range { start, end } = EXEC_UIDS;
        if first < end && start < first + count {
            return Err(format!(
                "uids: {count} from {first}: those from {start} to {} are of commands that root runs with \
                 `bulkhead exec`; take others",
                end - 1
            ));
        }
        Ok(())
    }

    /// The admin socket's path.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.runtime.join("admin.sock"))
    }
}

/// The text of a file that decides what privilege is used for; `None` if there is none.
///
/// CONFIG_INVALID: others can write it, or it is too long or no text.
pub(crate) fn read_ours(path: &Path) -> Result<Option<String>, Failure> {
    let unreadable =
        |error: &std::io::Error| invalid(path, format!("cannot read {}: {error}", path.display()));
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.map_err(|error| unreadable(&error))?,
    };
    let metadata = file.metadata().map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err(invalid(path, format!("{} is not a file", path.display())));
    }
    check_ours(path, &metadata)?;
    if metadata.len() > MAX_BYTES {
        let message = format!("{} is longer than {MAX_BYTES} bytes", path.display());
        return Err(invalid(path, message));
    }
    let mut text = String::new();
    file.by_ref().take(MAX_BYTES).read_to_string(&mut text).map_err(|error| unreadable(&error))?;
    Ok(Some(text))
}

/// It belongs to root or to this user, and nobody else can write it.
pub(crate) fn check_ours(path: &Path, metadata: &Metadata) -> Result<(), Failure> {
    let owner = metadata.uid();
    if (owner == 0 || owner == geteuid().as_raw()) && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(invalid(
        path,
        format!(
            "{} can be written by others (owner {owner}, mode {:04o}); \
             chown it to the service's user and chmod go-w",
            path.display(),
            metadata.mode() & 0o7777
        ),
    ))
}

/// A fault of a TOML file, with its place.
pub(crate) fn located(error: &toml::de::Error, text: &str, path: &Path) -> Failure {
    let message = error.message().trim_end();
    let Some(span) = error.span() else {
        return invalid(path, format!("{}: {message}", path.display()));
    };
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    invalid(path, format!("{}:{line}:{column}: {message}", path.display()))
        .with("line", line)
        .with("column", column)
}

fn invalid(path: &Path, message: String) -> Failure {
    Failure::new(Code::ConfigInvalid, message).with("path", path)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
