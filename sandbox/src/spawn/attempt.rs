//! The launcher's side of one start.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use super::prepare::{self, Circumstances, Prepared};
use super::{SpawnError, refusal};
use crate::cgroup::{Cgroup, Controller, Tree, Written};
use crate::child::{Ids, Plan};
use crate::descriptors::seqpacket_pair;
use crate::enforcement::Enforcement;
use crate::identity;
use crate::launch::Launch;
use crate::layer::Layer;
use crate::layers_off::is_off;
use crate::measure::Readings;
use crate::policy::Network;
use crate::process::{Child, wait_for};
use crate::report::{Report, Told};
use crate::stage::Stage;
use crate::status::{ProcessStatus, has_executed};
use crate::support;
use crate::syscall::{self, Clone, Cloned};

/// How long a start may take: far more than it does, but a source on a dead network file system must
/// not hold the launcher for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// How one attempt ended short of a child.
pub(super) enum Failure {
    /// No user namespace, or one in which nothing may be mounted: why, and what to do.
    NoNamespaces((String, String)),
    Error(SpawnError),
}

impl<E: Into<SpawnError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Error(error.into())
    }
}

fn parent(action: impl Into<String>) -> impl FnOnce(io::Error) -> SpawnError {
    let action = action.into();
    move |source| SpawnError::Parent { action, source }
}

/// Starts, with namespaces unless it is known that there are none.
pub(super) fn attempt(
    tree: Option<&Tree>,
    launch: &Launch<'_>,
    ids: Ids,
    no_namespaces: Option<&(String, String)>,
) -> Result<Child, Failure> {
    let namespaced = no_namespaces.is_none();
    let controllers = tree.map_or(&[][..], Tree::controllers);
    let landlock_abi = support::landlock_abi();
    let circumstances = Circumstances { ids, namespaced, controllers, landlock_abi };
    let (control, control_theirs) = seqpacket_pair().map_err(parent("making a socket pair"))?;
    let (verdict, verdict_theirs) = seqpacket_pair().map_err(parent("making a socket pair"))?;
    setsockopt(&control, sockopt::PassCred, &true)
        .map_err(|errno| parent("asking for credentials")(errno.into()))?;
    let prepared = prepare::prepare(launch, circumstances, &control_theirs, &verdict_theirs)?;
    let report = Report::new().map_err(|errno| parent("mapping a page")(errno.into()))?;
    let mut newborn = Newborn { cgroup: None, process: None };
    let mut written = Vec::new();
    if let Some(tree) = tree {
        let cgroup = newborn.cgroup.insert(tree.create(launch.name)?);
        written = cgroup.limit(&launch.policy.limits, controllers)?;
    }
    let namespaces = if namespaced { flags(&launch.policy.network) } else { 0 };
    let request = Clone { namespaces, cgroup: newborn.cgroup.as_ref().map(Cgroup::directory) };
    // SAFETY: `Plan::run` never returns, and keeps to what a copy of a threaded process may do.
    match unsafe { syscall::clone3(&request) } {
        Ok(Cloned::Child) => prepared.plan.run(&report),
        Ok(Cloned::Parent { pid, pidfd, placed }) => {
            newborn.process = Some(Process { pid, pidfd });
            if let Some(cgroup) = newborn.cgroup.as_ref().filter(|_| !placed) {
                // It waits for our byte, so it has forked nothing yet that could stay behind.
                cgroup.adopt(pid)?;
            }
        }
        Err(errno) if namespaced && refuses_namespaces(errno) => {
            return Err(Failure::NoNamespaces(support::why_no_user_namespace(errno)));
        }
        Err(errno) => {
            return Err(SpawnError::Stage {
                stage: Stage::Clone,
                subject: None,
                source: errno.into(),
                hint: None,
            }
            .into());
        }
    }
    drop((control_theirs, verdict_theirs));
    let start = Start { launch, ids, no_namespaces, landlock_abi, controllers, written: &written };
    start.finish(newborn, prepared, &report, &control, verdict)
}

fn flags(network: &Network) -> libc::c_int {
    let all = libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    let all = if *network == Network::None { all | libc::CLONE_NEWNET } else { all };
    let mut off = 0;
    for (layer, flag) in [
        (Layer::PidNamespace, libc::CLONE_NEWPID),
        (Layer::IpcNamespace, libc::CLONE_NEWIPC),
        (Layer::NetNamespace, libc::CLONE_NEWNET),
    ] {
        if is_off(layer) {
            off |= flag;
        }
    }
    all & !off
}

fn refuses_namespaces(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EPERM
            | Errno::EACCES
            | Errno::ENOSPC
            | Errno::EUSERS
            | Errno::EINVAL
            | Errno::ENOSYS
    )
}

/// What the second half of a start needs of the first.
struct Start<'a> {
    launch: &'a Launch<'a>,
    ids: Ids,
    no_namespaces: Option<&'a (String, String)>,
    landlock_abi: u32,
    controllers: &'a [Controller],
    written: &'a [Written],
}

impl Start<'_> {
    fn finish(
        &self,
        mut newborn: Newborn,
        prepared: Prepared,
        report: &Report,
        control: &OwnedFd,
        verdict: OwnedFd,
    ) -> Result<Child, Failure> {
        let pid = newborn.pid();
        let fail = |(action, source)| SpawnError::Parent { action, source };
        if self.no_namespaces.is_none() {
            match self.ids.write_maps(pid) {
                Err((_, error)) if !self.ids.change && is_denied(&error) => {
                    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EPERM));
                    return Err(Failure::NoNamespaces(support::why_no_user_namespace(errno)));
                }
                other => other.map_err(fail)?,
            }
        }
        // Judged by reading back.
        let _ = identity::offer_to_oom_killer(pid);
        let namespaces = own_namespaces(pid);
        // A child that is already gone has left its reason on the page.
        let _ = syscall::send_bytes(control.as_raw_fd(), &[1]);
        let in_time = wait_closed(control, PATIENCE);
        let told = report.told();
        if !in_time {
            return Err(late(&prepared.plan, &told).into());
        }
        if let Some(errno) = told.failed {
            return Err(failure(&prepared.plan, &told, errno));
        }
        if told.stage != Stage::Exec {
            return Err(newborn.vanished(&told, "").into());
        }
        let program = program_pid(control).map_err(parent("learning the program's pid"))?;
        // The init does not reap the program before we say so: its pid is its own until then.
        if !has_executed(program).map_err(parent(format!("reading /proc/{program}/stat")))? {
            return Err(newborn.vanished(&told, "the kernel killed it at the exec").into());
        }
        let enforcement = self.measure(&newborn, &prepared, program, told, &namespaces);
        let _ = syscall::send_bytes(verdict.as_raw_fd(), &[1]);
        let Process { pid, pidfd } = newborn.process.take().expect("it was made above");
        Ok(Child {
            pid,
            program_pid: Some(program),
            pidfd,
            verdict: File::from(verdict),
            cgroup: newborn.cgroup.take(),
            enforcement,
            memory_limit: self.launch.policy.limits.memory,
            file_size_limit: self.launch.policy.limits.file_size,
            killed: Cell::new(false),
            status: None,
        })
    }

    fn measure(
        &self,
        newborn: &Newborn,
        prepared: &Prepared,
        program: i32,
        told: Told,
        namespaces: &[(Layer, bool)],
    ) -> Enforcement {
        let proc = |file: &str| fs::read_to_string(format!("/proc/{program}/{file}")).ok();
        let cgroup = match &newborn.cgroup {
            // The kernel's own word that the program is in it, not only that it was asked for.
            Some(cgroup) if cgroup.has_process(program) => Ok(cgroup.path().display().to_string()),
            Some(cgroup) => Err((
                format!("the program is not in {}", cgroup.path().display()),
                "report this: the kernel was asked to start it there".to_owned(),
            )),
            None => Err(refusal::no_tree()),
        };
        Readings {
            policy: self.launch.policy,
            ids: self.ids,
            no_namespaces: self.no_namespaces,
            namespaces,
            told,
            landlock_abi: self.landlock_abi,
            rules: prepared.plan.rules.as_ref().map_or(0, crate::ruleset::Rules::len),
            status: ProcessStatus::read(program).ok(),
            limits: proc("limits"),
            oom_score: proc("oom_score_adj").and_then(|text| text.trim().parse().ok()),
            cgroup,
            controllers: self.controllers,
            written: self.written,
            stand_ins: &prepared.stand_ins,
            learns: self.launch.learner.is_some(),
        }
        .enforcement()
    }
}

/// What exists until a start has succeeded. Dropped, it leaves nothing.
struct Newborn {
    cgroup: Option<Cgroup>,
    process: Option<Process>,
}

struct Process {
    pid: i32,
    pidfd: OwnedFd,
}

impl Newborn {
    fn pid(&self) -> i32 {
        self.process.as_ref().map_or(0, |process| process.pid)
    }

    /// A child that ended without a word: how, by its wait status.
    fn vanished(&mut self, told: &Told, why: &str) -> SpawnError {
        let status = match self.end() {
            _ if !why.is_empty() => why.to_owned(),
            Some(WaitStatus::Signaled(_, signal, _)) => format!("{signal} ended it"),
            Some(WaitStatus::Exited(_, code)) => format!("exit code {code}"),
            _ => "how is not known".to_owned(),
        };
        SpawnError::Vanished { after: told.stage, status }
    }

    fn end(&mut self) -> Option<WaitStatus> {
        let Process { pidfd, .. } = self.process.take()?;
        // Ended already, or killed now; either way it is about to be waitable.
        let _ = syscall::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
        if !wait_for(pidfd.as_fd(), PollFlags::POLLIN, PATIENCE) {
            // It hangs in the kernel; waiting longer would hang us with it.
            return None;
        }
        waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG).ok()
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        self.end();
        if let Some(cgroup) = self.cgroup.take() {
            // Its processes have been reaped, or, without a pid namespace, are being killed.
            let _ = cgroup.kill();
            let _ = cgroup.wait_empty(PATIENCE);
            let _ = cgroup.remove();
        }
    }
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// A step that the child does not get done; it is killed.
fn late(plan: &Plan, told: &Told) -> SpawnError {
    let hint = match told.stage {
        Stage::Sources => "is the server of its file system there?",
        _ => "is the machine overloaded, or a disk?",
    };
    SpawnError::Stage {
        stage: told.stage,
        subject: prepare::subject(plan, told),
        source: Errno::ETIMEDOUT.into(),
        hint: Some(hint),
    }
}

/// A step that failed in the child.
fn failure(plan: &Plan, told: &Told, errno: Errno) -> Failure {
    // A user namespace in which nothing may be mounted (AppArmor) is none.
    let denied = matches!(errno, Errno::EPERM | Errno::EACCES);
    if denied
        && matches!((told.stage, told.subject), (Stage::Root | Stage::Ids, 0))
        && plan.namespaced
    {
        return Failure::NoNamespaces(support::why_no_user_namespace(errno));
    }
    let by_descriptor = plan.path.is_none();
    let hint = match (told.stage, errno) {
        (Stage::Sources, Errno::ENOENT) => Some("create it, or take it out of the mounts"),
        (Stage::Sources, Errno::ELOOP) => {
            Some("a part of its path is a symbolic link; name the path that it leads to")
        }
        (Stage::Mount, Errno::ENOENT) => {
            Some("its target lies beneath another mount, in which it must exist")
        }
        (Stage::Proc, _) => Some(
            "the machine's own /proc is partly covered, so the kernel refuses a fresh one; do without `proc`",
        ),
        (Stage::Exec, Errno::ENOENT) if by_descriptor => Some(
            "its dynamic loader is not visible in the compartment, or it is a script, which cannot be executed by descriptor",
        ),
        (Stage::Exec, Errno::ENOENT) => Some(
            "it, or the interpreter or loader that it names, is not visible in the compartment",
        ),
        (Stage::Exec, Errno::EACCES) => {
            Some("it lacks the run bit, or lies where the profile lets nothing be executed")
        }
        (Stage::Exec, Errno::ENOEXEC) => {
            Some("it is no program for this machine; a script begins with #!")
        }
        (Stage::Directory, Errno::ENOENT) => Some("it does not exist in the compartment"),
        (Stage::Canary, Errno::EPROTO) => {
            Some("the kernel reports Landlock in force, but a file that must not open did")
        }
        _ => None,
    };
    Failure::Error(SpawnError::Stage {
        stage: told.stage,
        subject: prepare::subject(plan, told),
        source: errno.into(),
        hint,
    })
}

/// Waits until the child's end of the socket is closed, by exec or by death; whether it is.
fn wait_closed(control: &OwnedFd, at_most: Duration) -> bool {
    let until = std::time::Instant::now() + at_most;
    loop {
        let left = until.saturating_duration_since(std::time::Instant::now());
        // No event is asked for: POLLHUP comes unasked.
        let mut polled = [PollFd::new(control.as_fd(), PollFlags::empty())];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, timeout) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) | Err(_) => {}
            Ok(_) => return true,
        }
    }
}

/// The program's pid in our namespace, from the credentials of its one message (unix(7)).
fn program_pid(control: &OwnedFd) -> io::Result<i32> {
    let mut byte = [0];
    let mut slices = [io::IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(nix::sys::socket::UnixCredentials);
    let message =
        recvmsg::<()>(control.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
    message
        .cmsgs()?
        .find_map(|item| match item {
            ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.pid()),
            _ => None,
        })
        .filter(|&pid| pid > 0)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the message had no credentials"))
}

/// Which of the child's namespaces are not ours, by the inodes in /proc.
fn own_namespaces(pid: i32) -> Vec<(Layer, bool)> {
    let inode = |pid: &str, name: &str| {
        fs::metadata(format!("/proc/{pid}/ns/{name}")).map(|found| (found.dev(), found.ino()))
    };
    [
        (Layer::UserNamespace, "user"),
        (Layer::PidNamespace, "pid"),
        (Layer::MountNamespace, "mnt"),
        (Layer::IpcNamespace, "ipc"),
        (Layer::UtsNamespace, "uts"),
        (Layer::NetNamespace, "net"),
    ]
    .into_iter()
    .map(|(layer, name)| {
        let own = match (inode("self", name), inode(&pid.to_string(), name)) {
            (Ok(ours), Ok(theirs)) => ours != theirs,
            _ => false,
        };
        (layer, own)
    })
    .collect()
}
