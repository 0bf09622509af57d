//! What was refused a compartment, as it is told: by which layer, and the setting that would allow it.

mod barrier;

use std::path::Path;

use bulkhead_sandbox::kernel_audit::{Object, Refusal};
use bulkhead_sandbox::{Layer, floors, seccomp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::manifest::HostPath;
pub(crate) use barrier::Barrier;

/// Beneath these a plugin has places of its own, which no grant replaces.
const OWN: [&str; 3] = ["/plugin", "/data", "/tmp"];

/// Different refusals of one plugin that are kept; of the others the one that was not seen for longest goes.
pub(crate) const KEPT: usize = 32;

/// A refusal, for whoever asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refused {
    /// Which layer it was, by its name: `seccomp`, `landlock-files`; or `grant`, where the service itself
    /// refused what it asks the grant about.
    layer: &'static str,
    /// The system call; the rights that Landlock names, `fs.read_file`, `net.connect_tcp`; or what the
    /// service was asked for: `call appointments/create`, `connect db.example.org:5432`.
    access: String,
    /// As the plugin sees it.
    path: Option<String>,
    /// Of TCP.
    port: Option<u16>,
    /// The setting that would allow it; null: none does.
    remedy: Option<String>,
}

/// In whose words a setting is named.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Settings {
    /// `plugin.toml`.
    Manifest,
    /// The flags of `bulkhead exec`.
    Flags,
}

#[derive(Debug)]
enum Remedy {
    Call(String),
    Read(HostPath),
    Write(HostPath),
    Execute,
    Connect(u16),
    Bind(u16),
}

impl Refused {
    pub(crate) fn new(refusal: &Refusal, settings: Settings) -> Self {
        let remedy = Remedy::of(refusal).and_then(|remedy| remedy.named_in(settings));
        match refusal {
            Refusal::Seccomp { call } => {
                let layer = Layer::Seccomp.name();
                Self { layer, access: call.clone(), path: None, port: None, remedy }
            }
            Refusal::Landlock { access, object } => {
                let (path, port) = match object {
                    Some(Object::Path(path)) => (Some(path.display().to_string()), None),
                    Some(Object::Port(port)) => (None, Some(*port)),
                    None => (None, None),
                };
                let layer = landlock_layer(access).name();
                Self { layer, access: access.clone(), path, port, remedy }
            }
        }
    }

    /// What the service refuses itself: the plugin lacks the grant.
    pub(crate) fn by_grant(access: String, remedy: Option<String>) -> Self {
        Self { layer: Barrier::GRANT, access, path: None, port: None, remedy }
    }

    pub(crate) fn layer(&self) -> &'static str {
        self.layer
    }

    pub(crate) fn is_by_landlock(&self) -> bool {
        self.layer.starts_with("landlock-")
    }

    /// For a person: what was refused, on what, and what would allow it.
    pub(crate) fn sentence(&self) -> String {
        let on = match (&self.path, self.port) {
            (Some(path), _) => format!(" on {path:?}"),
            (_, Some(port)) => format!(" on port {port}"),
            _ => String::new(),
        };
        let allowed = match &self.remedy {
            Some(remedy) => format!("{remedy} would allow it"),
            None => "no setting allows it".to_owned(),
        };
        format!("{}{on} ({allowed})", self.access)
    }
}

impl Remedy {
    fn of(refusal: &Refusal) -> Option<Self> {
        let (access, object) = match refusal {
            Refusal::Seccomp { call } => {
                let can_be_allowed = seccomp::calls::number(call).is_some()
                    && seccomp::never_allowed(call).is_none();
                return can_be_allowed.then(|| Self::Call(call.clone()));
            }
            Refusal::Landlock { access, object } => (access.as_str(), object.as_ref()?),
        };
        match (access, object) {
            ("net.connect_tcp", Object::Port(port)) => Some(Self::Connect(*port)),
            ("net.bind_tcp", Object::Port(port)) => Some(Self::Bind(*port)),
            (_, Object::Path(path)) => {
                let place = place(path)?;
                let mut remedy = Self::Read(place.clone());
                for right in access.split(',') {
                    remedy = match (right, remedy) {
                        ("fs.read_file" | "fs.read_dir", remedy) => remedy,
                        ("fs.execute", Self::Read(_)) => Self::Execute,
                        (
                            "fs.write_file" | "fs.truncate" | "fs.remove_dir" | "fs.remove_file"
                            | "fs.make_dir" | "fs.make_reg" | "fs.make_sock" | "fs.make_fifo"
                            | "fs.make_sym" | "fs.refer",
                            Self::Read(_) | Self::Write(_),
                        ) => Self::Write(place.clone()),
                        _ => return None,
                    };
                }
                Some(remedy)
            }
            _ => None,
        }
    }

    fn named_in(&self, settings: Settings) -> Option<String> {
        Some(match (self, settings) {
            (Self::Call(call), Settings::Manifest) => {
                format!("[sandbox] allow_syscalls = [{}]", quoted(call))
            }
            (Self::Read(place), Settings::Manifest) => {
                format!("[sandbox] read = [{}]", quoted(&place.to_string()))
            }
            (Self::Write(place), Settings::Manifest) => {
                format!("[sandbox] write = [{}]", quoted(&place.to_string()))
            }
            (Self::Execute, Settings::Manifest) => "[sandbox] profile = \"program\"".to_owned(),
            (Self::Connect(port), Settings::Manifest) => format!("[network] connect = [{port}]"),
            (Self::Bind(port), Settings::Manifest) => format!("[network] bind = [{port}]"),
            (Self::Call(call), Settings::Flags) => format!("--allow {call}"),
            (Self::Read(place), Settings::Flags) => format!("--ro {place}"),
            (Self::Write(place), Settings::Flags) => format!("--rw {place}"),
            // It has that profile already.
            (Self::Execute, Settings::Flags) => return None,
            (Self::Connect(port), Settings::Flags) => format!("--connect {port}"),
            (Self::Bind(port), Settings::Flags) => format!("--bind {port}"),
        })
    }
}

/// The one of Landlock's layers that has these rights, by the beginning of their names.
fn landlock_layer(access: &str) -> Layer {
    match access.split_once('.') {
        Some(("net", _)) => Layer::LandlockNetwork,
        Some(("fs", _)) => Layer::LandlockFiles,
        // `scope.signal`, and `ptrace`, which has no point.
        _ => Layer::LandlockScopes,
    }
}

/// A path that a manifest can name and a start can show.
fn place(path: &Path) -> Option<HostPath> {
    if OWN.iter().any(|own| path.starts_with(own)) || floors::is_reserved(path) {
        return None;
    }
    HostPath::try_from(path.to_str()?.to_owned()).ok()
}

/// A basic string of TOML. There is no control character in it.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remedy(access: &str, object: Object) -> Option<String> {
        let refusal = Refusal::Landlock { access: access.to_owned(), object: Some(object) };
        Refused::new(&refusal, Settings::Manifest).remedy
    }

    fn on(path: &str) -> Object {
        Object::Path(path.into())
    }

    #[test]
    fn the_line_that_would_allow_it_is_one_of_the_manifest() {
        for (access, object, expected) in [
            ("fs.read_file", on("/etc/shadow"), "[sandbox] read = [\"/etc/shadow\"]"),
            ("fs.read_dir", on("/srv"), "[sandbox] read = [\"/srv\"]"),
            ("fs.read_file,fs.write_file", on("/srv/x"), "[sandbox] write = [\"/srv/x\"]"),
            ("fs.make_reg", on("/srv"), "[sandbox] write = [\"/srv\"]"),
            ("fs.execute", on("/usr/bin/true"), "[sandbox] profile = \"program\""),
            ("net.connect_tcp", Object::Port(443), "[network] connect = [443]"),
            ("net.bind_tcp", Object::Port(80), "[network] bind = [80]"),
            ("fs.read_file", on("/srv/\"a\\b"), "[sandbox] read = [\"/srv/\\\"a\\\\b\"]"),
        ] {
            let found = remedy(access, object).unwrap();
            assert_eq!(found, expected);
            let manifest = format!("id = 'a'\nversion = '1.0.0'\n{}", found.replace("] ", "]\n"));
            crate::manifest::Manifest::parse(manifest.as_bytes(), Path::new("x")).unwrap();
        }
    }

    #[test]
    fn where_no_setting_allows_it_none_is_named() {
        for (access, object) in [
            ("fs.read_dir", on("/")),
            ("fs.read_dir", on("/etc")),
            ("fs.read_file", on("/proc/version")),
            ("fs.write_file", on("/plugin/bin/x")),
            ("fs.read_file", on("/srv/a\nb")),
            ("fs.read_file", on("/srv/../etc/shadow")),
            ("fs.make_block", on("/srv")),
            ("fs.execute,fs.write_file", on("/srv/x")),
            ("scope.abstract_unix_socket", on("\0x")),
            ("something.new", on("/srv")),
        ] {
            assert_eq!(remedy(access, object.clone()), None, "{access} {object:?}");
        }
    }

    #[test]
    fn what_landlock_denied_is_of_the_layer_that_has_the_right() {
        for (access, layer) in [
            ("fs.read_file,fs.write_file", Layer::LandlockFiles),
            ("net.bind_tcp", Layer::LandlockNetwork),
            ("scope.signal", Layer::LandlockScopes),
            ("ptrace", Layer::LandlockScopes),
        ] {
            let refusal = Refusal::Landlock { access: access.to_owned(), object: None };
            let refused = Refused::new(&refusal, Settings::Manifest);
            assert_eq!(refused.layer(), layer.name(), "{access}");
            assert!(refused.is_by_landlock());
        }
        assert!(!Refused::by_grant("call a/b".to_owned(), None).is_by_landlock());
    }

    #[test]
    fn a_call_is_allowed_by_name_unless_nothing_allows_it() {
        let of = |call: &str, settings| {
            Refused::new(&Refusal::Seccomp { call: call.to_owned() }, settings).remedy
        };
        let line = "[sandbox] allow_syscalls = [\"getrusage\"]";
        assert_eq!(of("getrusage", Settings::Manifest).as_deref(), Some(line));
        assert_eq!(of("getrusage", Settings::Flags).as_deref(), Some("--allow getrusage"));
        for never in ["ptrace", "number 9999"] {
            assert_eq!(of(never, Settings::Manifest), None);
        }
    }
}
