//! How much of the machine a plugin could reach, as one number: 0 for a compartment that is whole and
//! grants nothing, 10 for none.
//!
//! Theory of operation. Each layer that is not in force has a weight, and each kind of grant has one for
//! every single grant, up to a bound. The score is their sum, at most 10. It is a yardstick, to compare
//! plugins and to set a bound, and no probability. Layers are those that were measured after the start;
//! before a plugin has run, those that this machine was found to have.

use std::fmt;
use std::path::Path;

use bulkhead_sandbox::probe::Machine;
use bulkhead_sandbox::seccomp::Profile;
use bulkhead_sandbox::{Enforcement, Layer, Missing};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::manifest::{ByteSize, HostPath, Manifest, Network};

/// An exposure, in tenths: exact, so that a bound holds exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub(crate) struct Score(u32);

/// The worst there is.
const WORST: Score = Score(100);

/// A number that is no exposure.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0} is not an exposure: write a number from 0 to 10, with at most one decimal")]
pub(crate) struct NoScore(f64);

impl TryFrom<f64> for Score {
    type Error = NoScore;

    fn try_from(number: f64) -> Result<Self, NoScore> {
        let tenths = (number * 10.0).round();
        if !(0.0..=10.0).contains(&number) || (tenths / 10.0 - number).abs() > 1e-9 {
            return Err(NoScore(number));
        }
        Ok(Self(tenths as u32))
    }
}

impl From<Score> for f64 {
    fn from(score: Score) -> f64 {
        f64::from(score.0) / 10.0
    }
}

impl std::str::FromStr for Score {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse::<f64>().ok().map(Self::try_from);
        number.and_then(Result::ok).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            format!("{shown:?} is not an exposure: write a number from 0 to 10, for example 4.0")
        })
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

/// How exposed the machine is to a plugin, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Exposure {
    /// 0 to 10, with one decimal.
    #[schema(value_type = f64, example = 1.4)]
    pub(crate) score: Score,
    /// Whether the layers are those that were measured after the start; else they are those that
    /// this machine was found to have.
    pub(crate) measured: bool,
    /// What it is made of, worst first.
    pub(crate) reasons: Vec<Part>,
}

/// One part of an exposure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ExposureReason)]
pub(crate) struct Part {
    /// A layer that is not in force, or a kind of grant. Stable.
    pub(crate) name: String,
    #[schema(value_type = f64, example = 0.4)]
    pub(crate) weight: Score,
    /// What it is, for a person.
    pub(crate) reason: String,
    /// What would make it less.
    pub(crate) remedy: String,
}

/// What the absence of a layer weighs, in tenths; half of it where something stands in.
const fn weight(layer: Layer) -> u32 {
    match layer {
        Layer::Seccomp | Layer::Capabilities => 20,
        Layer::Uid | Layer::PrivateRoot | Layer::NoNewPrivs | Layer::LandlockFiles => 15,
        Layer::NetNamespace => 10,
        Layer::UserNamespace
        | Layer::PidNamespace
        | Layer::MountNamespace
        | Layer::Cgroup
        | Layer::Memory
        | Layer::Pids
        | Layer::LandlockNetwork => 5,
        Layer::Groups | Layer::IpcNamespace | Layer::Proc | Layer::Cpu | Layer::LandlockScopes => 3,
        Layer::OpenFiles | Layer::FileSize => 2,
        // As much as to ask for no bound on disks.
        Layer::Io | Layer::UtsNamespace | Layer::OomScore => 1,
        // The audit shows what is refused and refuses nothing.
        Layer::Audit => 0,
    }
}

/// A kind of grant.
struct Kind {
    name: &'static str,
    /// Tenths for each grant of that kind, and for all of them at most.
    each: u32,
    most: u32,
    reason: &'static str,
    remedy: &'static str,
    /// The grants, as the manifest has them.
    of: fn(&Manifest) -> Vec<String>,
}

const KINDS: [Kind; 13] = [
    Kind {
        name: "write-broad",
        each: 25,
        most: 50,
        reason: "it can write to a place that many programs use",
        remedy: "name the directory that it needs in [sandbox] write",
        of: |it| paths(&it.sandbox.write, is_broad),
    },
    Kind {
        name: "read-broad",
        each: 10,
        most: 20,
        reason: "it can read a place that many programs use",
        remedy: "name the directory that it needs in [sandbox] read",
        of: |it| paths(&it.sandbox.read, is_broad),
    },
    Kind {
        name: "write",
        each: 8,
        most: 24,
        reason: "it can write to a place outside its own",
        remedy: "keep it in /data, and leave it out of [sandbox] write",
        of: |it| paths(&it.sandbox.write, |path| !is_broad(path)),
    },
    Kind {
        name: "profile",
        each: 12,
        most: 12,
        reason: "it can execute programs of the machine and make many more system calls",
        remedy: "[sandbox] profile = \"plugin\"",
        of: |it| match it.sandbox.profile {
            Profile::Program => vec!["program".to_owned()],
            _ => Vec::new(),
        },
    },
    Kind {
        name: "connect",
        each: 5,
        most: 20,
        reason: "it can connect to this TCP port of every machine, this one included",
        remedy: "[network] hosts, which names the machine as well",
        of: |it| ports(&it.network, |connect, _| connect),
    },
    Kind {
        name: "network",
        each: 10,
        most: 10,
        reason: "it is in the machine's own network, where only Landlock holds it to its ports",
        remedy: "[network] hosts, which leaves it in an empty network of its own",
        of: |it| match &it.network {
            Network::Ports { .. } => vec!["ports".to_owned()],
            Network::None | Network::Hosts(_) => Vec::new(),
        },
    },
    Kind {
        name: "bind",
        each: 5,
        most: 15,
        reason: "others can connect to it on this TCP port",
        remedy: "leave the port out of [network] bind, and be called through the service",
        of: |it| ports(&it.network, |_, bind| bind),
    },
    Kind {
        name: "syscall",
        each: 3,
        most: 15,
        reason: "it can make a system call that its profile leaves out",
        remedy: "do without the call, and leave it out of [sandbox] allow_syscalls",
        of: |it| it.sandbox.allow_syscalls.clone(),
    },
    Kind {
        name: "read",
        each: 3,
        most: 12,
        reason: "it can read a place outside its own",
        remedy: "put what it needs into the package, and leave it out of [sandbox] read",
        of: |it| paths(&it.sandbox.read, |path| !is_broad(path)),
    },
    Kind {
        name: "host",
        each: 2,
        most: 10,
        reason: "it can have a connection to this machine and port",
        remedy: "leave it out of [network] hosts",
        of: |it| match &it.network {
            Network::Hosts(pairs) => pairs.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        },
    },
    Kind {
        name: "proc-visible",
        each: 2,
        most: 2,
        reason: "it has a /proc, and with it more of the kernel to ask",
        remedy: "[sandbox] proc = false",
        of: |it| if it.sandbox.proc { vec!["/proc".to_owned()] } else { Vec::new() },
    },
    Kind {
        name: "limits",
        each: 3,
        most: 12,
        reason: "it may use so much that it is hardly a limit",
        remedy: "lower it in [limits]",
        of: wide_limits,
    },
    Kind {
        name: "disks",
        each: 1,
        most: 1,
        reason: "what it reads from and writes to disks in a second is not bounded",
        remedy: "[limits] io_read and io_write, or for all plugins in bulkhead.toml",
        of: |it| {
            let bounds = [it.limits.io_read, it.limits.io_write];
            let wide = |bound: &Option<ByteSize>| bound.is_none_or(|it| it.bytes() > WIDE_DISK);
            if bounds.iter().any(wide) { vec!["disks".to_owned()] } else { Vec::new() }
        },
    },
];

/// More than this of one plugin is hardly a limit.
const WIDE_MEMORY: u64 = 4 << 30;
const WIDE_PIDS: u32 = 1024;
/// Percent of one CPU. Not what this machine has: a score is the same on every one.
const WIDE_CPU: u32 = 200;
const WIDE_STORAGE: u64 = 64 << 30;
/// In a second.
const WIDE_DISK: u64 = 1 << 30;

fn wide_limits(manifest: &Manifest) -> Vec<String> {
    let limits = &manifest.limits;
    let wide = [
        ("memory", limits.memory.bytes() > WIDE_MEMORY),
        ("cpu", limits.cpu.percent() > WIDE_CPU),
        ("pids", limits.pids > WIDE_PIDS),
        ("storage", limits.storage.bytes() > WIDE_STORAGE),
    ];
    wide.iter().filter(|(_, wide)| *wide).map(|(name, _)| (*name).to_owned()).collect()
}

/// A directory right beneath the root, or one in which every user or program has something.
fn is_broad(path: &Path) -> bool {
    const SHARED: [&str; 8] = [
        "/etc/ssl/private",
        "/var/lib",
        "/var/log",
        "/var/run",
        "/usr/local",
        "/home",
        "/run",
        "/proc",
    ];
    path.components().count() <= 2
        || SHARED.iter().any(|shared| path == Path::new(shared))
        || path.starts_with("/proc")
        || path.starts_with("/sys")
}

fn paths(all: &[HostPath], wanted: fn(&Path) -> bool) -> Vec<String> {
    all.iter().filter(|path| wanted(path.as_path())).map(ToString::to_string).collect()
}

fn ports<'a>(network: &'a Network, of: fn(&'a [u16], &'a [u16]) -> &'a [u16]) -> Vec<String> {
    match network {
        Network::Ports { connect, bind } => {
            of(connect, bind).iter().map(ToString::to_string).collect()
        }
        Network::None | Network::Hosts(_) => Vec::new(),
    }
}

impl Exposure {
    /// Of a plugin that runs.
    pub(crate) fn measured(manifest: &Manifest, enforcement: &Enforcement) -> Self {
        Self::of(manifest, true, enforcement.missing().map(of_missing).collect())
    }

    /// Of a plugin that does not run, as far as the machine is known.
    pub(crate) fn expected(manifest: &Manifest, machine: Option<&Machine>) -> Self {
        let policy = manifest.policy(false);
        let missing = machine.into_iter().flat_map(|machine| machine.missing(&policy));
        Self::of(manifest, false, missing.map(|missing| of_missing(&missing)).collect())
    }

    fn of(manifest: &Manifest, measured: bool, missing: Vec<Part>) -> Self {
        // What weighs nothing is no reason.
        let mut reasons = missing;
        reasons.retain(|missing| missing.weight > Score(0));
        reasons.extend(KINDS.iter().filter_map(|kind| kind.reason(manifest)));
        reasons.sort_by(|one, other| {
            other.weight.cmp(&one.weight).then_with(|| one.name.cmp(&other.name))
        });
        let sum: u32 = reasons.iter().map(|reason| reason.weight.0).sum();
        Self { score: Score(sum).min(WORST), measured, reasons }
    }

    /// Whether it is within a bound.
    ///
    /// # Errors
    /// [`Code::ExposureTooHigh`] with `score`, `maximum`, `reasons`.
    pub(crate) fn check(&self, id: &PluginId, maximum: Score) -> Result<(), Failure> {
        if self.score <= maximum {
            return Ok(());
        }
        let worst: Vec<&str> = self.reasons.iter().take(3).map(|it| it.reason.as_str()).collect();
        let how = if self.measured { "as it was measured" } else { "as it is expected here" };
        let message = format!(
            "{id} has an exposure of {} of 10, {how}, and at most {maximum} is allowed: {}; grant it \
             less, or raise the bound",
            self.score,
            worst.join("; ")
        );
        Err(Failure::new(Code::ExposureTooHigh, message)
            .with("score", self.score)
            .with("maximum", maximum)
            .with("measured", self.measured)
            .with("reasons", &self.reasons))
    }
}

fn of_missing(missing: &Missing) -> Part {
    let layer = missing.layer;
    let (weight, lacks) = match missing.stood_in_by {
        Some(_) => (weight(layer).div_ceil(2), "not in full"),
        None => (weight(layer), "missing"),
    };
    Part {
        name: layer.name().to_owned(),
        weight: Score(weight),
        reason: format!("the layer {layer} is {lacks}: {}", layer.purpose()),
        remedy: "`bulkhead doctor` says what would make it so".to_owned(),
    }
}

impl Kind {
    fn reason(&self, manifest: &Manifest) -> Option<Part> {
        let grants = (self.of)(manifest);
        (!grants.is_empty()).then(|| Part {
            name: self.name.to_owned(),
            weight: Score(self.most.min(self.each.saturating_mul(grants.len() as u32))),
            reason: if self.each == self.most {
                // There is one such grant, which the reason says.
                self.reason.to_owned()
            } else {
                format!("{}: {}", self.reason, grants.join(", "))
            },
            remedy: self.remedy.to_owned(),
        })
    }
}

#[cfg(test)]
#[path = "exposure_tests.rs"]
mod tests;
