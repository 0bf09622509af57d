//! From a launch to a [`Plan`]: everything that can be worked out before the process exists.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};

use super::SpawnError;
use crate::cgroup::Controller;
use crate::child::{Descriptors, Ids, MAX_MOUNTS, Plan, Strings};
use crate::exit::bytes;
use crate::floors::FloorViolation;
use crate::init;
use crate::launch::{Launch, ProgramFile};
use crate::layer::Layer;
use crate::layers_off::{self, is_off};
use crate::measure::StandIn;
use crate::policy::{Policy, Strictness};
use crate::report::Told;
use crate::root::{self, Planned, Root};
use crate::ruleset::{Rules, source_of};
use crate::seccomp::{self, Profile, learning};
use crate::stage::Stage;
use crate::syscall;

/// Locked memory is charged to the cgroup like any other, but cannot be reclaimed.
const MEMLOCK: u64 = 64 << 10;

/// A plan, and what of it the enforcement will tell.
pub(super) struct Prepared {
    pub(super) plan: Plan,
    pub(super) stand_ins: Vec<StandIn>,
}

/// What decides how a launch is prepared.
#[derive(Clone, Copy)]
pub(super) struct Circumstances<'a> {
    pub(super) ids: Ids,
    pub(super) namespaced: bool,
    pub(super) controllers: &'a [Controller],
    pub(super) landlock_abi: u32,
}

pub(super) fn prepare(
    launch: &Launch<'_>,
    circumstances: Circumstances<'_>,
    control: &OwnedFd,
    verdict: &OwnedFd,
) -> Result<Prepared, SpawnError> {
    let Circumstances { ids, namespaced, landlock_abi, .. } = circumstances;
    let policy = launch.policy;
    let strict = policy.strictness == Strictness::Strict;
    let own_root = namespaced && !is_off(Layer::PrivateRoot);
    let root =
        if own_root { Some(Root::plan(&policy.filesystem, launch.name, strict)?) } else { None };
    if let Some(root) = &root
        && root.mounts.len() > MAX_MOUNTS
    {
        return Err(SpawnError::Invalid {
            field: "filesystem.mounts",
            value: policy.filesystem.mounts.len().to_string(),
            why: format!(
                "a compartment has at most {MAX_MOUNTS} mounts, its own included; show a common parent"
            ),
        });
    }
    // Without a private root there is only the machine's own: a path inside is where it comes from.
    let real = |path: &Path| -> PathBuf {
        if own_root { path.to_owned() } else { source_of(policy, path) }
    };
    let (path, program) = match &launch.program.file {
        ProgramFile::Path(path) => (Some(path.as_path()), None),
        ProgramFile::Descriptor(file) => (None, Some(file.as_raw_fd())),
    };
    let landlock = landlock_abi > 0 && !is_off(Layer::LandlockFiles);
    let rules = landlock.then(|| Rules::plan(policy, path, real, own_root)).transpose()?;
    let (limits, stand_ins) = limits(policy, circumstances);
    let facts = policy.facts(namespaced, ids.own, landlock_abi);
    let filter = seccomp::compile(policy.profile, &policy.allow_syscalls, &facts)?;
    // What the policy may not say is refused all the same.
    let filter = if launch.learner.is_some() { learning::compile(facts) } else { filter };
    let plan = Plan {
        namespaced,
        ids,
        root,
        descriptors: Descriptors {
            stdio: [&launch.stdio.stdin, &launch.stdio.stdout, &launch.stdio.stderr]
                .map(AsRawFd::as_raw_fd),
            bootstrap: launch.bootstrap.as_ref().map(AsRawFd::as_raw_fd),
            program,
            control: control.as_raw_fd(),
            learner: launch.learner.as_ref().map(AsRawFd::as_raw_fd),
            verdict: verdict.as_raw_fd(),
        },
        limits,
        umask: if policy.profile == Profile::Program { 0o022 } else { 0o077 },
        directory: root::terminated(&real(&launch.program.cwd))?,
        rules,
        canary: if own_root { root::CANARY.to_owned() } else { c"/".to_owned() },
        filter: layers_off::filter(filter),
        init_filter: init::filter(),
        path: path.map(|path| root::terminated(&real(path))).transpose()?,
        arguments: arguments(&launch.program.args)?,
        environment: environment(&launch.program.env)?,
        launcher: syscall::pidfd_of_self().map_err(|errno| SpawnError::Parent {
            action: "opening a descriptor of this process".to_owned(),
            source: errno.into(),
        })?,
    };
    Ok(Prepared { plan, stand_ins })
}

/// Checks of the launch that no kernel makes for us.
pub(super) fn check(launch: &Launch<'_>) -> Result<(), SpawnError> {
    let invalid = |field, value: &OsStr, why: &str| {
        Err(SpawnError::Invalid {
            field,
            value: value.to_string_lossy().into_owned(),
            why: why.to_owned(),
        })
    };
    let program = &launch.program;
    if launch.learner.is_some() && launch.policy.strictness == Strictness::Strict {
        let why = "a filter that asks refuses nothing, and strict goes without no layer";
        return invalid("learner", OsStr::new("strict"), why);
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if launch.name.is_empty()
        || launch.name.len() > 64
        || launch.name.starts_with('.')
        || !launch.name.bytes().all(plain)
    {
        let why =
            "use letters, digits, `-`, `_` and `.`, at most 64 bytes, not beginning with a dot";
        return invalid("name", OsStr::new(launch.name), why);
    }
    if program.args.is_empty() {
        return invalid("program.args", OsStr::new(""), "give at least argv[0]");
    }
    if !program.cwd.is_absolute() {
        return invalid("program.cwd", program.cwd.as_os_str(), "must be an absolute path");
    }
    if let ProgramFile::Path(path) = &program.file
        && !path.is_absolute()
    {
        return invalid("program.file", path.as_os_str(), "must be an absolute path");
    }
    let limits = &launch.policy.limits;
    if let Some(cpu) = limits.cpu
        && (cpu.quota_us < 1000 || !(1000..=1_000_000).contains(&cpu.period_us))
    {
        let value = format!("{} / {}", cpu.quota_us, cpu.period_us);
        let why = "the quota is at least 1000 µs, the period between 1000 and 1000000 µs";
        return invalid("limits.cpu", OsStr::new(&value), why);
    }
    if limits.pids == Some(0) {
        return invalid("limits.pids", OsStr::new("0"), "at least 1, the program itself");
    }
    if limits.memory.is_some_and(|memory| memory < 1 << 20) {
        let value = limits.memory.unwrap_or_default().to_string();
        return invalid("limits.memory", OsStr::new(&value), "at least 1 MiB, less runs nothing");
    }
    if limits.nofile < 8 {
        let value = limits.nofile.to_string();
        return invalid("limits.nofile", OsStr::new(&value), "at least 8, fewer run nothing");
    }
    Ok(())
}

/// Resource limits, and which of them stand in for a controller.
fn limits(
    policy: &Policy,
    circumstances: Circumstances<'_>,
) -> (Vec<(libc::c_uint, u64)>, Vec<StandIn>) {
    let mut limits = Vec::new();
    let mut stand_ins = Vec::new();
    // A hard limit can be lowered, not raised: no capability for it is assumed.
    let mut lower = |resource: Resource, limit: u64| {
        let hard = getrlimit(resource).map_or(u64::MAX, |(_, hard)| hard);
        limits.push((resource as libc::c_uint, limit.min(hard)));
    };
    lower(Resource::RLIMIT_NOFILE, policy.limits.nofile);
    lower(Resource::RLIMIT_CORE, 0);
    lower(Resource::RLIMIT_MEMLOCK, MEMLOCK);
    if let Some(size) = policy.limits.file_size {
        lower(Resource::RLIMIT_FSIZE, size);
    }
    let lacks = |controller| !circumstances.controllers.contains(&controller);
    if let Some(memory) = policy.limits.memory
        && lacks(Controller::Memory)
    {
        lower(Resource::RLIMIT_DATA, memory);
        let text = format!("RLIMIT_DATA {} per process", bytes(memory));
        stand_ins.push(StandIn { layer: Layer::Memory, text });
    }
    if let Some(pids) = policy.limits.pids
        && lacks(Controller::Pids)
        // The kernel exempts uid 0, and without a uid or a user namespace of its own the limit would
        // count what else its user runs.
        && circumstances.ids.uid != 0
        && (circumstances.ids.own || circumstances.namespaced)
    {
        // One more for our init.
        let processes = u64::from(pids) + 1;
        lower(Resource::RLIMIT_NPROC, processes);
        let text = format!("RLIMIT_NPROC {processes} for its uid");
        stand_ins.push(StandIn { layer: Layer::Pids, text });
    }
    (limits, stand_ins)
}

fn arguments(arguments: &[OsString]) -> Result<Strings, SpawnError> {
    let strings: Result<Vec<CString>, SpawnError> =
        arguments.iter().map(|argument| terminated("program.args", argument.as_bytes())).collect();
    Ok(Strings::new(strings?))
}

fn environment(environment: &[(OsString, OsString)]) -> Result<Strings, SpawnError> {
    let mut strings = Vec::with_capacity(environment.len());
    for (key, value) in environment {
        if key.is_empty() || key.as_bytes().contains(&b'=') {
            return Err(SpawnError::Invalid {
                field: "program.env",
                value: key.to_string_lossy().into_owned(),
                why: "a variable's name is not empty and has no `=`".to_owned(),
            });
        }
        strings
            .push(terminated("program.env", &[key.as_bytes(), b"=", value.as_bytes()].concat())?);
    }
    Ok(Strings::new(strings))
}

fn terminated(field: &'static str, bytes: &[u8]) -> Result<CString, SpawnError> {
    CString::new(bytes).map_err(|_| SpawnError::Invalid {
        field,
        value: String::from_utf8_lossy(bytes).into_owned(),
        why: "it holds a NUL byte, which cannot be passed to a program".to_owned(),
    })
}

/// What a step was about, for an error.
pub(super) fn subject(plan: &Plan, told: &Told) -> Option<String> {
    let mount = || plan.root.as_ref()?.mounts.get(told.subject);
    match told.stage {
        Stage::Sources => mount().map(Planned::source),
        Stage::Mount => mount().map(|mount| format!("{} at {}", mount.source(), mount.target())),
        Stage::Directory => Some(plan.directory.to_string_lossy().into_owned()),
        Stage::Exec => plan.path.as_ref().map(|path| path.to_string_lossy().into_owned()),
        _ => None,
    }
}

impl From<FloorViolation> for SpawnError {
    fn from(violation: FloorViolation) -> Self {
        SpawnError::Floor(violation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_number_of_processes_has_room_for_the_init() {
        let mut policy = Policy::default();
        policy.limits.pids = Some(u32::MAX);
        let ids = Ids { uid: 7, gid: 7, change: true, own: true };
        let circumstances =
            Circumstances { ids, namespaced: true, controllers: &[], landlock_abi: 0 };
        let (_, stand_ins) = limits(&policy, circumstances);
        let pids = stand_ins.iter().find(|it| it.layer == Layer::Pids).unwrap();
        assert_eq!(pids.text, "RLIMIT_NPROC 4294967296 for its uid");
    }
}
