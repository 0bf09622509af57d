//! From a configuration to a launcher that can run: directories, the lock, identities, the socket,
//! and the end of whatever a dead launcher left.

use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkhead_sandbox::cgroup::{CgroupError, Tree};
use bulkhead_sandbox::floors::AllowedSources;
use bulkhead_sandbox::kernel_audit;
use bulkhead_sandbox::privilege;
use bulkhead_sandbox::probe::probe;
use bulkhead_sandbox::unprivileged;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Group, Uid, User, chown, geteuid};

use super::admin_socket::{Access, AdminSocket, SocketError};
use super::admission::Rules;
use super::audit_anchor::AuditAnchor;
use super::durable::{Disk, Waiting};
use super::errands::{Errands, Role};
use super::event_loop::{Launcher, block_signals, new_epoll};
use super::jobs::Jobs;
use super::learning::Learning;
use super::notify::Notify;
use super::package_store::PackageStore;
use super::plugins::Plugins;
use super::restarts::Restarts;
use super::starts::Starts;
use super::storage::{Ownership, Storage, StorageError, UidRange};
use super::supervision::Supervision;
use super::supervisor::Command;
use super::trust_log::TrustLog;
use super::unpacking;
use crate::clock::Monotonic;
use crate::config::{AdvisoriesPolicy, Config, Mode};
use crate::link::{Admission, Advisories, Settings};
use crate::trust::TrustStore;

/// How long a start waits for the places of `[mounts]`.
const LOOKING: Duration = Duration::from_secs(2);
/// How long what a dead launcher left is given to disappear after SIGKILL.
const LEFTOVERS: Duration = Duration::from_secs(5);

/// Why the launcher does not start. Nothing runs then.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("cannot use {path}: {source}")]
    Path { path: PathBuf, source: io::Error },
    #[error("{path} must be a directory of uid {uid} that nobody else can write")]
    Unsafe { path: PathBuf, uid: u32 },
    #[error("another service uses the state in {path}; stop it, or set another `state`")]
    Locked { path: PathBuf },
    #[error("`{field}` in the configuration: there is no {kind} {name:?}")]
    Unknown { field: &'static str, kind: &'static str, name: String },
    #[error("`user` in the configuration: the supervisor cannot be the superuser")]
    Superuser,
    #[error(
        "{path} belongs to uid {owner}, and the supervisor would run as uid {uid}: set `user = \"{owner}\"` \
         in the configuration, or hand it over with `chown -R {uid}:{gid} {path}`"
    )]
    Foreign { path: PathBuf, owner: u32, uid: u32, gid: u32 },
    #[error("{name} of a dead service does not go away: {why}")]
    Leftover { name: String, why: String },
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("privilege that is not needed cannot be given up: {0}")]
    Privilege(io::Error),
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
    #[error("cannot wait for events: {0}")]
    Events(#[from] Errno),
}

/// What a start needs besides the loop's own state: kept until the end.
pub(super) struct Held {
    _lock: Flock<File>,
}

/// `given`: the kernel's audit stream, where the service manager opened it.
pub(super) fn prepare(
    config: &Config,
    given: io::Result<Option<OwnedFd>>,
    learning: Option<Learning>,
) -> Result<(Launcher, Held), StartError> {
    // Before anything can be started that would inherit another mask.
    let signals = block_signals()?;
    raise_descriptor_limit();
    // The last thing that takes more privilege than is kept.
    let kernel_audit = kernel_audit(given);
    privilege::keep_only_the_launchers().map_err(StartError::Privilege)?;
    // Not before: a thread keeps the privilege that it began with.
    let disk = Disk::start("disk").map_err(StartError::Thread)?;
    let starts = Starts::new().map_err(StartError::Thread)?;
    let epoll = new_epoll(&signals, &disk, &starts)?;
    let privileged = geteuid().is_root();
    directory(&config.state, 0o755)?;
    // What is mounted from it must be named without a symbolic link.
    let state =
        std::fs::canonicalize(&config.state).map_err(|error| path_error(&config.state, error))?;
    let lock = lock(&state)?;
    let tree = discover(config.mode);
    let stuck = tree.as_ref().map_or(Ok(Vec::new()), |tree| end_leftovers(tree, LEFTOVERS))?;
    let user = if privileged { Some(supervisor_user(config)?) } else { None };
    let own_state = state.join("supervisor");
    make(&own_state, 0o700)?;
    if let Some(user) = &user {
        give(&own_state, user)?;
    }
    let ownership = if privileged {
        let uids = config.uids.of_plugins();
        Ownership::Leased(UidRange { first: uids.start, count: uids.end - uids.start })
    } else {
        Ownership::Invoker(geteuid().as_raw())
    };
    let store_path = state.join("store");
    // Before there is a store: a death in between is another first start.
    let first = !store_path.exists();
    let anchor = AuditAnchor::open(&state, first).map_err(|error| path_error(&state, error))?;
    let mut store =
        PackageStore::open(store_path.clone()).map_err(|error| path_error(&store_path, error))?;
    let mut storage = Storage::open(state.join("plugins"), ownership)?;
    storage.hold(stuck);
    for left in store.take_left() {
        storage.leave(left);
    }
    let trust_log = TrustLog::open(&state).map_err(|error| path_error(&state, error))?;
    let access = Access {
        admin_gid: group(config.admin_group.as_deref(), "admin_group")?,
        reader_gid: group(config.reader_group.as_deref(), "reader_group")?,
    };
    let socket = config.socket();
    if socket.parent() == Some(&config.runtime) {
        directory(&config.runtime, 0o755)?;
    }
    let admin = AdminSocket::bind(&socket, access)?;
    let mut machine = probe();
    if kernel_audit.is_some() {
        machine.is_given_audit();
    }
    for lacking in machine.lacking() {
        tracing::warn!(layer = %lacking.layer, detail = lacking.detail, "this machine lacks a layer");
    }
    let rules = rules(config);
    let settings = Settings {
        state: own_state,
        store: store.path().to_owned(),
        socket,
        strict: config.mode == Mode::Strict,
        stop_timeout: config.stop_timeout.duration(),
        resume_timeout: config.resume_timeout.duration(),
        heartbeat: config.heartbeat.duration(),
        usage_interval: config.usage_interval.duration(),
        admin_gid: access.admin_gid,
        reader_gid: access.reader_gid,
        audited_calls: config.audit.calls,
        retention: config.retention,
        logs: config.logs,
        tracing: config.tracing.clone(),
        launcher_uid: geteuid().as_raw(),
        archives_limit: config.retention.archives_bytes(),
        admission: Admission {
            memory: config.admission.memory_bytes(),
            pids: config.admission.pids,
            max_exposure: config.admission.max_exposure,
        },
        limits: config.limits,
        advisories: config.advisories.clone().map(|path| Advisories {
            path,
            refuse: config.advisories_policy == AdvisoriesPolicy::Refuse,
        }),
        sources: rules.sources.clone(),
        started_ms: u64::try_from(jiff::Timestamp::now().as_millisecond()).ok(),
        supervisor_starts: 0,
        machine: serde_json::to_value(&machine).unwrap_or_default(),
    };
    let notify = Notify::from_environment();
    let launcher = Launcher {
        allow_directories: config.allow_directories,
        learning,
        ownership,
        rules,
        command: command(config, user),
        tree: tree.map(Arc::new),
        store,
        storage,
        anchor,
        disk,
        waiting: Waiting::default(),
        plugins: Plugins::default(),
        jobs: Jobs::default(),
        starts,
        errands: Errands::default(),
        unpack: unpack(config),
        trust: TrustStore::at(&config.trust),
        trust_log,
        generation: first_generation(),
        supervision: Supervision::Over,
        restarts: Restarts::default(),
        orphaned_since: None,
        stop: None,
        admin,
        kernel_audit,
        watchdog_at: notify.watchdog_interval().map(|interval| Monotonic::now().plus(interval)),
        notify,
        announced: false,
        epoll,
        signals,
        settings,
    };
    Ok((launcher, Held { _lock: lock }))
}

fn path_error(path: &Path, source: io::Error) -> StartError {
    StartError::Path { path: path.to_owned(), source }
}

/// Milliseconds since the epoch: later than every generation of an earlier launcher, which cannot
/// have started a plugin in each millisecond of its life.
fn first_generation() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::from_secs(1));
    since.as_millis() as u64
}

fn make(path: &Path, mode: u32) -> Result<(), StartError> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(path_error(path, error)),
        _ => Ok(()),
    }
}

/// A directory of ours, made with its parents if need be. Nobody else may put things in it.
fn directory(path: &Path, mode: u32) -> Result<(), StartError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| path_error(path, error))?;
    let metadata = std::fs::metadata(path).map_err(|error| path_error(path, error))?;
    let uid = geteuid().as_raw();
    if metadata.uid() != uid || metadata.mode() & 0o022 != 0 {
        return Err(StartError::Unsafe { path: path.to_owned(), uid });
    }
    Ok(())
}

/// Makes a directory the supervisor's. One that was another user's is not taken: what is in it would
/// stay that user's, and a supervisor that cannot write its own store is of no use.
fn give(path: &Path, user: &unprivileged::User) -> Result<(), StartError> {
    let owner = std::fs::metadata(path).map_err(|error| path_error(path, error))?.uid();
    let unprivileged::User { uid, gid, .. } = *user;
    // Made just now, by us.
    let ours = geteuid().as_raw();
    if owner != ours && owner != uid {
        return Err(StartError::Foreign { path: path.to_owned(), owner, uid, gid });
    }
    chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(|errno| path_error(path, errno.into()))
}

/// One launcher at a time uses a state directory.
fn lock(state: &Path) -> Result<Flock<File>, StartError> {
    let path = state.join("launcher.lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| path_error(&path, error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => StartError::Locked { path: state.to_owned() },
        errno => path_error(&path, errno.into()),
    })
}

/// Many plugins are many descriptors. Best effort: what is refused is said when it is missed.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Our part of the cgroup hierarchy. Without one plugins start only under best effort.
fn discover(mode: Mode) -> Option<Tree> {
    match Tree::discover() {
        Ok(tree) => Some(tree),
        Err(error) if mode == Mode::Strict => {
            tracing::error!(%error, "no cgroup: in mode strict no plugin can be started");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "no cgroup: plugins run without its limits");
            None
        }
    }
}

/// Without it a death by seccomp is told without the name of the call.
fn kernel_audit(given: io::Result<Option<OwnedFd>>) -> Option<OwnedFd> {
    let given = given
        .inspect_err(|error| tracing::warn!(%error, "the service manager gave no audit stream"));
    if let Ok(Some(stream)) = given {
        return Some(stream);
    }
    kernel_audit::open()
        .inspect_err(|error| {
            tracing::info!(%error, "the kernel's audit stream cannot be read: which system call a plugin died of will not be known");
        })
        .ok()
}

/// Kills and removes the compartments of a launcher that died; tells the uids of processes that are still
/// there `at_most` so long after SIGKILL. They wait in the kernel and end when it lets them: nothing else
/// needs to wait for that, as a compartment of the same name is not started before.
fn end_leftovers(tree: &Tree, at_most: Duration) -> Result<Vec<u32>, StartError> {
    let failed = |name: &str, error: &CgroupError| StartError::Leftover {
        name: name.to_owned(),
        why: error.to_string(),
    };
    let names = tree.leftovers().map_err(|error| failed("a compartment", &error))?;
    let mut left = Vec::new();
    for name in names {
        let cgroup = tree.open(&name).map_err(|error| failed(&name, &error))?;
        tracing::warn!(%name, "ending what a dead service left");
        cgroup.kill().map_err(|error| failed(&name, &error))?;
        left.push((name, cgroup));
    }
    let deadline = Instant::now() + at_most;
    let mut stuck = Vec::new();
    for (name, cgroup) in left {
        let left = deadline.saturating_duration_since(Instant::now());
        if cgroup.wait_empty(left).map_err(|error| failed(&name, &error))? {
            if let Err(error) = cgroup.remove() {
                tracing::warn!(%name, %error, "the cgroup of a dead service's compartment stays");
            }
            continue;
        }
        let uids = uids_in(cgroup.path());
        tracing::error!(
            %name,
            ?uids,
            cgroup = %cgroup.path().display(),
            "a process of a dead service is still there {at_most:?} after SIGKILL: it waits in the kernel \
             (state D in ps); what has this name is not started before it is gone"
        );
        stuck.extend(uids);
    }
    Ok(stuck)
}

/// As whom the processes in a cgroup run.
fn uids_in(cgroup: &Path) -> Vec<u32> {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let processes = read(cgroup.join("cgroup.procs"));
    let mut uids: Vec<u32> = processes
        .lines()
        .filter_map(|pid| {
            let status = read(Path::new("/proc").join(pid).join("status"));
            let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
            line.split_whitespace().next()?.parse().ok()
        })
        .collect();
    uids.sort_unstable();
    uids.dedup();
    uids
}

/// The supervisor's user: the configured one, else `bulkhead`, else the first uid of the range.
fn supervisor_user(config: &Config) -> Result<unprivileged::User, StartError> {
    let name = config.user.as_deref();
    let found = match name.map(|name| (name, name.parse::<u32>())) {
        Some((_, Ok(uid))) => {
            let gid = match User::from_uid(Uid::from_raw(uid))? {
                Some(user) => user.gid.as_raw(),
                None => uid,
            };
            Some((uid, gid))
        }
        Some((name, Err(_))) => {
            let user = User::from_name(name)?.ok_or_else(|| StartError::Unknown {
                field: "user",
                kind: "user",
                name: name.to_owned(),
            })?;
            Some((user.uid.as_raw(), user.gid.as_raw()))
        }
        None => User::from_name("bulkhead")?.map(|user| (user.uid.as_raw(), user.gid.as_raw())),
    };
    let (uid, gid) = found.unwrap_or((config.uids.first, config.uids.first));
    if uid == 0 || gid == 0 {
        return Err(StartError::Superuser);
    }
    Ok(unprivileged::User { uid, gid, groups: Vec::new() })
}

fn group(name: Option<&str>, field: &'static str) -> Result<Option<u32>, StartError> {
    let Some(name) = name else { return Ok(None) };
    if let Ok(gid) = name.parse() {
        return Ok(Some(gid));
    }
    let found = Group::from_name(name)?.ok_or_else(|| StartError::Unknown {
        field,
        kind: "group",
        name: name.to_owned(),
    })?;
    Ok(Some(found.gid.as_raw()))
}

/// What paths are after every link, of those that answer in time: a file server that is gone does not keep the
/// service from starting.
fn found(paths: &[PathBuf]) -> Vec<PathBuf> {
    let (sender, receiver) = channel();
    let mut silent: HashSet<&PathBuf> = paths.iter().collect();
    for path in paths {
        let (sender, path) = (sender.clone(), path.clone());
        std::thread::spawn(move || sender.send((std::fs::canonicalize(&path), path)));
    }
    drop(sender);
    let until = Instant::now() + LOOKING;
    let mut found = Vec::new();
    while let Ok((result, path)) =
        receiver.recv_timeout(until.saturating_duration_since(Instant::now()))
    {
        silent.remove(&path);
        found.extend(result.ok());
    }
    for path in silent {
        tracing::warn!(
            path = %path.display(),
            "a place of [mounts] does not answer: until the next start it is known by this name only"
        );
    }
    found
}

fn rules(config: &Config) -> Rules {
    // A source is judged by where it truly is, so the allowed ones are, too.
    let resolved = |paths: &[PathBuf]| {
        let mut resolved = found(paths);
        resolved.extend_from_slice(paths);
        resolved.sort();
        resolved.dedup();
        resolved
    };
    Rules {
        strict: config.mode == Mode::Strict,
        sources: AllowedSources {
            read_only: resolved(&config.mounts.read_only),
            read_write: resolved(&config.mounts.read_write),
        },
        ceilings: config.limits.floors(),
        own: resolved(&own(config)),
    }
}

/// What the service keeps for itself, or is told by.
fn own(config: &Config) -> Vec<PathBuf> {
    let mut own = vec![config.state.clone(), config.runtime.clone(), config.trust.clone()];
    own.extend(config.socket.clone());
    own.extend(config.advisories.clone());
    own
}

fn command(config: &Config, user: Option<unprivileged::User>) -> Command {
    match config.supervisor_command.as_deref() {
        Some([program, args @ ..]) => {
            Command { program: program.into(), args: args.to_vec(), user }
        }
        // This very program, even if another has since been installed under its name.
        _ => Command { program: "/proc/self/exe".into(), args: vec!["supervise".into()], user },
    }
}

fn unpack(config: &Config) -> Role {
    Role {
        // This very program, as it is the supervisor.
        program: "/proc/self/exe".into(),
        arguments: config.unpack_arguments.clone().unwrap_or_else(unpacking::arguments),
        within: config.unpack_within.unwrap_or_else(unpacking::within),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_does_not_end_holds_its_uid_and_not_the_start() {
        // Files in the place of a hierarchy: nothing dies of what is written to them.
        let directory = tempfile::tempdir().unwrap();
        let leftover = directory.path().join("plugins/hung");
        std::fs::create_dir_all(&leftover).unwrap();
        for place in ["", "plugins"] {
            for name in ["cgroup.controllers", "cgroup.subtree_control"] {
                std::fs::write(directory.path().join(place).join(name), "").unwrap();
            }
        }
        std::fs::write(leftover.join("cgroup.kill"), "").unwrap();
        std::fs::write(leftover.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        std::fs::write(leftover.join("cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
        let tree = Tree::at(directory.path()).unwrap();
        let stuck = end_leftovers(&tree, Duration::from_millis(1)).unwrap();
        assert_eq!(stuck, [geteuid().as_raw()]);
        assert_eq!(std::fs::read_to_string(leftover.join("cgroup.kill")).unwrap(), "1");
        assert!(leftover.exists());
    }
}
