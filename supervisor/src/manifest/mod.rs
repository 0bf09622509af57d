//! `plugin.toml`, parsed once into types that cannot be wrong inside.
//!
//! Theory of operation. The file is read with a bound, deserialized straight into the types below,
//! whose own `TryFrom` and `FromStr` hold the grammars, and then checked for what several fields say
//! together. Every fault is one [`Failure`] with [`Code::ManifestInvalid`], which names file, line,
//! column, key and value and says what to write instead; an unknown key names the nearest known one.
//! The published description is `docs/manifest.md`.

mod lifecycle;
mod limits;
mod location;
mod network;
mod path;
mod permission;
mod policy;
mod published;
mod sandboxing;
mod schedule;
mod schema;
pub(crate) mod secrets;
mod service;
mod text;
mod topic;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;

use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::nesting::{DEEPEST, is_too_deep};

pub(crate) use lifecycle::{Lifecycle, MAX_STOP, RestartPolicy};
pub(crate) use limits::Limits;
pub(crate) use network::{HostPort, Network};
pub(crate) use path::{BadPath, EntryPath, HostPath};
pub(crate) use permission::{BadPermission, Permission};
pub(crate) use published::SCHEMA;
pub(crate) use sandboxing::Sandboxing;
pub(crate) use schedule::{Cron, Missed, Overlap, Schedule, Timezone};
pub(crate) use schedule::{DAY, HOUR, MINUTE, MONTH, WEEKDAY};
pub(crate) use schema::Schema;
pub(crate) use service::{Service, ServiceName};
pub(crate) use text::{Line, is_unsafe};
pub(crate) use topic::{Events, TopicPattern};
pub(crate) use units::{ByteSize, CpuShare, TimeSpan};

/// The name of the file in a plugin's tree.
pub(crate) const FILE_NAME: &str = "plugin.toml";
/// A longer manifest is refused before it is parsed.
pub(crate) const MAX_BYTES: u64 = 256 * 1024;

/// What a plugin says about itself and asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) id: PluginId,
    pub(crate) version: Version,
    /// For people; the id where the file has none.
    #[serde(default)]
    pub(crate) name: Line,
    #[serde(default)]
    pub(crate) author: Line,
    #[serde(default)]
    pub(crate) homepage: Line,
    #[serde(default)]
    pub(crate) description: Line,
    /// The binary inside the tree; `bin/<id>` where the file has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entry: Option<EntryPath>,
    /// The versions of the protocol that it speaks.
    #[serde(default = "first_protocol")]
    pub(crate) api: VersionReq,
    #[serde(default)]
    pub(crate) permissions: Vec<Permission>,
    /// Other plugins, which must be enabled before this one.
    #[serde(default)]
    pub(crate) dependencies: BTreeMap<PluginId, VersionReq>,
    #[serde(default)]
    pub(crate) provides: BTreeMap<ServiceName, Service>,
    #[serde(default)]
    pub(crate) config: Config,
    #[serde(default)]
    pub(crate) limits: Limits,
    #[serde(default)]
    pub(crate) network: Network,
    #[serde(default)]
    pub(crate) sandbox: Sandboxing,
    #[serde(default)]
    pub(crate) schedule: Vec<Schedule>,
    #[serde(default)]
    pub(crate) events: Events,
    #[serde(default)]
    pub(crate) lifecycle: Lifecycle,
}

/// `[config]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Of the whole configuration, defaults included. None: anything goes.
    pub(crate) schema: Option<Schema>,
    /// What holds where an operator gives nothing.
    pub(crate) defaults: Map<String, Value>,
}

impl Config {
    /// Whether a configuration, laid over the defaults, is one that the plugin takes.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] with `path`.
    pub(crate) fn check(&self, effective: &Value) -> Result<(), Failure> {
        if is_too_deep(effective) {
            let message = format!(
                "the configuration is nested deeper than the {DEEPEST} levels that can be kept; \
                 make it flatter"
            );
            return Err(Failure::new(Code::ConfigInvalid, message).with("path", ""));
        }
        let Some(schema) = &self.schema else { return Ok(()) };
        schema.check(effective).map_err(|fault| {
            Failure::new(Code::ConfigInvalid, fault.to_string()).with("path", fault.path)
        })
    }
}

/// The default of `api` is a promise: it stays what it is when a second protocol comes.
fn first_protocol() -> VersionReq {
    VersionReq::parse("^1").expect("a version requirement, written here")
}

impl Manifest {
    /// Reads and parses `plugin.toml` in `directory`.
    ///
    /// # Errors
    /// [`Code::NotFound`] where there is no such file, [`Code::ManifestInvalid`] for all else; the
    /// details have `path`, and `line`, `column`, `key`, `value` where known.
    pub(crate) fn load(directory: &Path) -> Result<Self, Failure> {
        Self::load_as(directory, directory)
    }

    /// The same of a copy of what a person knows as `shown`.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), with paths of `shown`.
    pub(crate) fn load_as(directory: &Path, shown: &Path) -> Result<Self, Failure> {
        let path = shown.join(FILE_NAME);
        let unreadable = |error: std::io::Error| {
            let code = match error.kind() {
                std::io::ErrorKind::NotFound => Code::NotFound,
                _ => Code::ManifestInvalid,
            };
            let message = match code {
                Code::NotFound => format!(
                    "there is no {FILE_NAME} in {}; a plugin's directory has {FILE_NAME} and its binary, by default bin/<id>",
                    shown.display()
                ),
                _ => format!("cannot read {}: {error}", path.display()),
            };
            Failure::new(code, message).with("path", &path).with("what", "manifest")
        };
        let file = std::fs::File::open(directory.join(FILE_NAME)).map_err(unreadable)?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        Self::parse(&bytes, &path)
    }

    /// Parses the text of a manifest; `path` is for messages.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Self, Failure> {
        let invalid = |message: String| {
            Failure::new(Code::ManifestInvalid, format!("{}: {message}", path.display()))
                .with("path", path)
        };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(invalid(format!("a manifest has at most {MAX_BYTES} bytes")));
        }
        let source = std::str::from_utf8(bytes).map_err(|error| {
            let at = error.valid_up_to();
            let before = String::from_utf8_lossy(&bytes[..at]);
            fault(path, &before, at..at, &format!("not UTF-8 text from byte {at} on"))
        })?;
        let mut manifest: Self = toml::from_str(source).map_err(|error| {
            let message = with_suggestion(error.message());
            match error.span() {
                Some(span) => fault(path, source, span, &message),
                None => invalid(message),
            }
        })?;
        if manifest.name.as_str().is_empty() {
            manifest.name = Line::try_from(manifest.id.to_string())
                .expect("an id is short and has no control characters");
        }
        manifest.check().map_err(|(key, message)| match location::span_of(source, &key) {
            Some(span) => fault(path, source, span, &message),
            // A default does not hold, and has no place of its own: only the memory can be the cause.
            None => match location::span_of(source, "limits.memory") {
                Some(span) => fault(path, source, span, &format!("{key}: {message}")),
                None => invalid(format!("{key}: {message}")),
            },
        })?;
        Ok(manifest)
    }

    /// The binary, relative to the tree.
    pub(crate) fn entry(&self) -> String {
        match &self.entry {
            Some(entry) => entry.as_str().to_owned(),
            None => format!("bin/{}", self.id),
        }
    }

    /// What several fields say together: the key at fault, and why.
    fn check(&self) -> Result<(), (String, String)> {
        let within = |section: &'static str| {
            move |(field, why): (&'static str, String)| (format!("{section}.{field}"), why)
        };
        self.limits.check().map_err(within("limits"))?;
        self.lifecycle.check().map_err(within("lifecycle"))?;
        self.sandbox.check().map_err(|(field, why)| (format!("sandbox.{field}"), why))?;
        schedule::check(&self.schedule)?;
        if self.dependencies.contains_key(&self.id) {
            let why = "a plugin cannot depend on itself; remove the line".to_owned();
            return Err((format!("dependencies.{}", self.id), why));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.permissions.iter().find(|permission| !seen.insert(*permission)) {
            return Err(("permissions".to_owned(), format!("{twice} is listed twice")));
        }
        let homepage = self.homepage.as_str();
        let is_web = homepage.starts_with("https://") || homepage.starts_with("http://");
        if !homepage.is_empty() && !is_web {
            let why = format!("{homepage:?} is not a web address; write https://…");
            return Err(("homepage".to_owned(), why));
        }
        if let Some(schema) = &self.config.schema {
            let defaults = Value::Object(self.config.defaults.clone());
            schema
                .check_defaults(&defaults)
                .map_err(|fault| (format!("config.defaults.{}", fault.path), fault.why))?;
        }
        if self.sandbox.tmp > self.limits.memory {
            let why = format!(
                "{} is more than limits.memory, {}, as which it counts",
                self.sandbox.tmp, self.limits.memory
            );
            return Err(("sandbox.tmp".to_owned(), why));
        }
        Ok(())
    }
}

fn fault(path: &Path, source: &str, span: Range<usize>, message: &str) -> Failure {
    let at = location::locate(source, span);
    let key = if at.key.is_empty() { String::new() } else { format!("{}: ", at.key) };
    let message = format!("{}:{}:{}: {key}{message}", path.display(), at.line, at.column);
    let mut failure = Failure::new(Code::ManifestInvalid, message)
        .with("path", path)
        .with("line", at.line)
        .with("column", at.column);
    if !at.key.is_empty() {
        failure = failure.with("key", at.key);
    }
    match at.value {
        Some(value) => failure.with("value", value),
        None => failure,
    }
}

/// serde words an unknown key as ``unknown field `x`, expected one of `a`, `b` ``, and an unknown
/// value of an enumeration alike; this adds the nearest of them. A test holds serde to its words.
fn with_suggestion(message: &str) -> String {
    for number in ["u8", "u16", "u32", "u64"] {
        if let Some(found) = message.strip_suffix(&format!(", expected {number}")) {
            return format!("{found}; write a whole number, without quotes");
        }
    }
    if !message.starts_with("unknown field") && !message.starts_with("unknown variant") {
        return message.to_owned();
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let Some(given) = quoted.next() else { return message.to_owned() };
    let nearest = quoted.min_by_key(|known| strsim::osa_distance(given, known));
    match nearest.filter(|known| strsim::osa_distance(given, known) <= 1 + given.len() / 4) {
        Some(known) => format!("{message}; did you mean `{known}`?"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests;
