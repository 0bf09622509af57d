//! What a compartment must be: the policy, as data.
//!
//! A policy is plain data with a stable serialised form (TOML and JSON, unknown fields refused), so
//! that an operator can write one for `bulkhead exec --policy` and read back what was asked for.
//! Nothing here touches the system: [`crate::spawn`] turns a policy into a process and
//! [`crate::Enforcement`] says what came of it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::layer::Layer;
use crate::seccomp::{Facts, Profile, SocketGrant};

/// Everything that confines one process tree. [`Policy::default`] is what a plugin gets that asks
/// for nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The seccomp profile, which also decides what may be executed: under `compute` and `plugin`
    /// only the entry itself and its loader, under `program` every read-only file that is visible.
    pub profile: Profile,
    /// Memory, processes, CPU, I/O, descriptors.
    pub limits: Limits,
    /// What is visible and what of it is writable.
    pub filesystem: Filesystem,
    /// Which network is reachable.
    pub network: Network,
    /// System calls allowed by name on top of the profile. Those on the never-list are refused.
    pub allow_syscalls: Vec<String>,
    /// What happens where the machine lacks a layer.
    pub strictness: Strictness,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            profile: Profile::Plugin,
            limits: Limits::default(),
            filesystem: Filesystem::default(),
            network: Network::None,
            allow_syscalls: Vec::new(),
            strictness: Strictness::Strict,
        }
    }
}

impl Policy {
    /// Whether it asks for that layer; one that it does not ask for cannot be missing.
    pub fn involves(&self, layer: Layer) -> bool {
        match layer {
            Layer::NetNamespace => self.network == Network::None,
            Layer::LandlockNetwork => self.network != Network::Host,
            Layer::Proc => self.filesystem.proc,
            Layer::Memory => self.limits.memory.is_some(),
            Layer::Pids => self.limits.pids.is_some(),
            Layer::Cpu => self.limits.cpu.is_some(),
            Layer::Io => self.limits.bound_io(),
            Layer::FileSize => self.limits.file_size.is_some(),
            // It shows what a compartment is refused and is no part of one.
            Layer::Audit => false,
            _ => true,
        }
    }

    /// What the filter must know of a compartment of this policy.
    pub(crate) fn facts(&self, namespaced: bool, own_uid: bool, landlock_abi: u32) -> Facts {
        Facts {
            landlock_abi,
            private_root: namespaced,
            no_places: !self.filesystem.places,
            pid_namespace: namespaced,
            own_uid,
            net_namespace: namespaced && self.network == Network::None,
            sockets: match self.network {
                Network::None => SocketGrant::default(),
                Network::Ports { .. } => SocketGrant { tcp: true, udp: false },
                Network::Host => SocketGrant { tcp: true, udp: true },
            },
        }
    }
}

/// What happens where the machine lacks a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strictness {
    /// Nothing is started; [`crate::SpawnError::SandboxUnavailable`] names the layer.
    #[default]
    Strict,
    /// The process starts with every layer that exists; [`crate::Enforcement::missing`] names the rest.
    BestEffort,
}

/// Limits of one compartment. `None` leaves the resource unlimited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of memory for the whole compartment (`memory.max`, with no swap). Without the
    /// cgroup controller `RLIMIT_DATA` stands in, per process.
    pub memory: Option<u64>,
    /// Processes and threads the program may have (`pids.max`, which is set one higher for our own
    /// init). Without the controller `RLIMIT_NPROC` stands in where the uid is the compartment's own.
    pub pids: Option<u32>,
    /// CPU bandwidth (`cpu.max`).
    pub cpu: Option<CpuMax>,
    /// Bandwidth and operations of each block device that the machine has at the start (`io.max`).
    pub disks: Option<DiskMax>,
    /// The same of block devices by their number, in place of what `disks` says of them.
    pub io: Vec<IoMax>,
    /// Open descriptors per process (`RLIMIT_NOFILE`).
    pub nofile: u64,
    /// Bytes of the largest file that can be written (`RLIMIT_FSIZE`).
    pub file_size: Option<u64>,
}

impl Limits {
    /// Whether any block device has a limit.
    pub(crate) fn bound_io(&self) -> bool {
        self.disks.is_some() || !self.io.is_empty()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory: Some(256 << 20),
            pids: Some(64),
            cpu: None,
            disks: None,
            io: Vec::new(),
            nofile: 1024,
            file_size: None,
        }
    }
}

/// `quota_us` of CPU time in each `period_us` of wall time; 20 000 in 100 000 is a fifth of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuMax {
    /// Microseconds of CPU time, at least 1000.
    pub quota_us: u64,
    /// Microseconds of wall time, 1000 to 1 000 000.
    #[serde(default = "CpuMax::default_period")]
    pub period_us: u64,
}

impl CpuMax {
    const fn default_period() -> u64 {
        100_000
    }

    /// `percent` of one CPU, over the kernel's default period of 100 ms.
    pub const fn percent(percent: u64) -> Self {
        CpuMax {
            quota_us: percent * Self::default_period() / 100,
            period_us: Self::default_period(),
        }
    }
}

/// What may go to and from a block device in a second. `None` leaves it unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskMax {
    /// Bytes read.
    pub rbps: Option<u64>,
    /// Bytes written.
    pub wbps: Option<u64>,
    /// Reads.
    pub riops: Option<u64>,
    /// Writes.
    pub wiops: Option<u64>,
}

/// One line of `io.max` (cgroup-v2.rst, "IO Interface Files").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoMax {
    /// `major:minor` of the block device.
    pub device: String,
    /// Bytes read per second.
    #[serde(default)]
    pub rbps: Option<u64>,
    /// Bytes written per second.
    #[serde(default)]
    pub wbps: Option<u64>,
    /// Reads per second.
    #[serde(default)]
    pub riops: Option<u64>,
    /// Writes per second.
    #[serde(default)]
    pub wiops: Option<u64>,
}

/// What the compartment can see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Asked")]
pub struct Filesystem {
    /// The machine's system directories (`/usr`, `/bin`, `/lib*`, `/sbin`, parts of `/etc`), read-only.
    pub system: bool,
    /// Further directories and files, in the order in which they are mounted.
    pub mounts: Vec<Mount>,
    /// Size of the private `/tmp` in bytes; its pages count as the compartment's memory. 0: no `/tmp`.
    pub tmp_bytes: u64,
    /// Whether a private `/proc` is mounted. Needs a machine whose own `/proc` is fully visible.
    pub proc: bool,
    /// Whether there are places of the machine among the mounts, in which services may have sockets. What is read,
    /// from a request or a file, has them if it has any mount; what is added to it is the compartment's own, but
    /// for what is [shown](Self::show).
    #[serde(skip)]
    pub places: bool,
}

impl Default for Filesystem {
    fn default() -> Self {
        Filesystem {
            system: true,
            mounts: Vec::new(),
            tmp_bytes: 64 << 20,
            proc: false,
            places: false,
        }
    }
}

/// A [`Filesystem`] as it is read.
#[derive(Deserialize)]
#[serde(rename = "Filesystem", deny_unknown_fields, default)]
struct Asked {
    system: bool,
    mounts: Vec<Mount>,
    tmp_bytes: u64,
    proc: bool,
}

impl Default for Asked {
    fn default() -> Self {
        let Filesystem { system, mounts, tmp_bytes, proc, places: _ } = Filesystem::default();
        Asked { system, mounts, tmp_bytes, proc }
    }
}

impl From<Asked> for Filesystem {
    fn from(Asked { system, mounts, tmp_bytes, proc }: Asked) -> Self {
        Filesystem { system, places: !mounts.is_empty(), mounts, tmp_bytes, proc }
    }
}

/// One directory or file that is made visible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// On the machine. Absolute, and what it is after every symbolic link: one in it is refused when
    /// the compartment is made, as it could lead elsewhere than when the policy was judged.
    pub source: PathBuf,
    /// Inside the compartment. Absolute, without `.` and `..`.
    pub target: PathBuf,
    /// Whether it can be written.
    #[serde(default)]
    pub access: Access,
}

impl Mount {
    /// `source` visible at `target`, not writable.
    pub fn read_only(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Mount { source: source.into(), target: target.into(), access: Access::ReadOnly }
    }

    /// `source` visible at `target`, writable, nothing in it executable.
    pub fn read_write(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Mount { source: source.into(), target: target.into(), access: Access::ReadWrite }
    }
}

/// Whether a mount can be written. Never both written and executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read, and under [`Profile::Program`] execute; but where the same policy lets it be written, as
    /// [`Access::ReadData`].
    #[default]
    ReadOnly,
    /// Read; mounted `noexec`, as somebody may write there.
    ReadData,
    /// Read and write; mounted `noexec`.
    ReadWrite,
}

impl Filesystem {
    /// Adds a place of the machine.
    pub fn show(&mut self, place: Mount) {
        self.mounts.push(place);
        self.places = true;
    }

    /// What can be done with that mount of these. What can be written is not executed under another name
    /// either: where a writable mount has part of it, and its own target does not hide that part.
    /// `hides` is whether targets hide anything: they do in a private root.
    pub(crate) fn access(&self, mount: &Mount, hides: bool) -> Access {
        let shared = |written: &&Mount| {
            written.access == Access::ReadWrite && overlap(&written.source, &mount.source)
        };
        let is_open =
            |written: &Mount| !hides || !written.is_within(mount) && !mount.is_within(written);
        if mount.access == Access::ReadOnly && self.mounts.iter().filter(shared).any(is_open) {
            return Access::ReadData;
        }
        mount.access
    }
}

/// Whether one is the other, or beneath it.
pub fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

impl Mount {
    /// Whether this one lies in the other, and is seen there in place of what the other shows.
    fn is_within(&self, other: &Mount) -> bool {
        let beneath = self.source.strip_prefix(&other.source).ok();
        beneath.is_some_and(|beneath| {
            beneath != Path::new("") && other.target.join(beneath) == self.target
        })
    }
}

/// Which network the compartment reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// None: an empty network namespace, without even a loopback device that is up.
    #[default]
    None,
    /// The machine's own, unrestricted.
    Host,
    /// The machine's own, TCP only, and only these ports (Landlock, from kernel 6.7).
    #[serde(rename_all = "kebab-case")]
    Ports {
        /// Remote ports that may be connected to.
        #[serde(default)]
        connect: Vec<u16>,
        /// Local ports that may be bound.
        #[serde(default)]
        bind: Vec<u16>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever sends a policy cannot say that what it mounts is the compartment's own.
    #[test]
    fn what_is_read_mounts_places_of_the_machine() {
        let mut sent = Policy::default();
        let read = |sent: &Policy| -> Policy {
            serde_json::from_str(&serde_json::to_string(sent).unwrap()).unwrap()
        };
        assert_eq!(read(&sent), sent);
        sent.filesystem.mounts.push(Mount::read_only("/run", "/run"));
        assert!(!sent.filesystem.places && read(&sent).filesystem.places);
        sent.filesystem.show(Mount::read_only("/srv", "/srv"));
        assert_eq!(read(&sent), sent);
        let said = serde_json::from_str::<Filesystem>(r#"{"mounts": [], "places": false}"#);
        assert!(said.unwrap_err().to_string().contains("unknown field `places`"));
    }
}
