//! The recipe of a compartment: what the new process does to itself, in order.
//!
//! Each step is a reason, a call, and a [`Stage`] of its own, so that an error names it. The order
//! was found by trying; the comments say what breaks otherwise. Nothing here allocates, locks or
//! unwinds: the process is a copy of one that may have had other threads (see [`crate::syscall`]).
//! Everything that can be worked out beforehand is in the [`Plan`].

use std::ffi::{CString, c_char};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;

use crate::capabilities;
use crate::init::Init;
use crate::layer::Layer;
use crate::layers_off::is_off;
use crate::learning;
use crate::report::{LandlockStatus, Report};
use crate::root::Root;
use crate::ruleset::Rules;
use crate::seccomp;
use crate::stage::Stage;
use crate::syscall::{self, Call};

/// The most mounts of one compartment, so that the child needs no allocation to hold them.
pub const MAX_MOUNTS: usize = 64;

/// Where the child keeps its descriptors. 0 to 3 are the program's.
const CONTROL: RawFd = 4;
const PROGRAM: RawFd = 5;
/// Where there is one: whom calls are put to.
const LEARNER: RawFd = 6;
const VERDICT: RawFd = 7;
/// Opened where there is no pid namespace: the init's list of its children.
const CHILDREN: RawFd = 8;
const LAST_SLOT: RawFd = 7;
/// Copies are made up here first, so that none is overwritten before it is in its place.
const ABOVE_SLOTS: RawFd = 16;

/// All that the child needs, made before it exists.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) namespaced: bool,
    pub(crate) ids: Ids,
    /// `None`: the machine's own root.
    pub(crate) root: Option<Root>,
    pub(crate) descriptors: Descriptors,
    /// Resource, and its limit (soft and hard).
    pub(crate) limits: Vec<(libc::c_uint, u64)>,
    pub(crate) umask: libc::mode_t,
    pub(crate) directory: CString,
    /// `None`: the kernel has no Landlock.
    pub(crate) rules: Option<Rules>,
    /// Readable before Landlock is in force, and not after.
    pub(crate) canary: CString,
    pub(crate) filter: Vec<libc::sock_filter>,
    pub(crate) init_filter: Vec<libc::sock_filter>,
    /// `None`: the descriptor.
    pub(crate) path: Option<CString>,
    pub(crate) arguments: Strings,
    pub(crate) environment: Strings,
    /// Ourselves, as a descriptor: readable when we are gone.
    pub(crate) launcher: OwnedFd,
}

/// As whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups can be dropped, and ids changed.
    pub(crate) change: bool,
    /// The uid is of this compartment alone.
    pub(crate) own: bool,
}

/// What the child inherits, by number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptors {
    pub(crate) stdio: [RawFd; 3],
    pub(crate) bootstrap: Option<RawFd>,
    pub(crate) program: Option<RawFd>,
    pub(crate) control: RawFd,
    pub(crate) learner: Option<RawFd>,
    pub(crate) verdict: RawFd,
}

/// A null-terminated array of C strings.
#[derive(Debug)]
pub(crate) struct Strings {
    /// Owns what `pointers` points at: a CString's bytes do not move with it.
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Strings {
    pub(crate) fn new(strings: Vec<CString>) -> Strings {
        let ends = std::iter::once(std::ptr::null());
        let pointers = strings.iter().map(|string| string.as_ptr()).chain(ends).collect();
        Strings { _strings: strings, pointers }
    }
}

impl Plan {
    /// The child's life, from its first instruction. Never returns: it becomes the init, and its
    /// child the program, or it ends after reporting the step that failed.
    pub(crate) fn run(&self, report: &Report) -> ! {
        match self.build(report).and_then(|()| self.start(report)) {
            Ok(init) => {
                report.detach();
                init.run(&self.init_filter)
            }
            Err(errno) => {
                report.fail(errno);
                syscall::exit(1)
            }
        }
    }

    /// Makes the compartment around this process.
    fn build(&self, report: &Report) -> Call {
        // A handler of the launcher's, or a signal that it ignores, is not the program's business.
        // All are blocked until there is someone to take them.
        report.begin(Stage::Signals, 0);
        syscall::block_signals(true)?;
        syscall::reset_signals();
        // Before anything is waited for: this process has a copy of both ends of the link that it
        // waits on, so the death of the launcher would not end the wait, and what is inherited of
        // the launcher (its lock, its sockets) would be held for ever.
        self.die_with_launcher()?;

        // Sources are opened with the launcher's eyes: beneath a 0700 parent the compartment's uid
        // could not (EACCES). This needs no map, so it runs while the launcher writes them.
        let mut trees: ManuallyDrop<[Option<OwnedFd>; MAX_MOUNTS]> =
            ManuallyDrop::new([const { None }; MAX_MOUNTS]);
        if let Some(root) = &self.root {
            root.open_sources(report, &mut *trees)?;
        }

        // Only someone outside may map more than one's own uid, so the launcher writes the maps.
        report.begin(Stage::IdMaps, 0);
        if !syscall::receive_byte(self.descriptors.control)? {
            return Err(Errno::EOWNERDEAD);
        }

        if self.namespaced {
            // Before the root is made: its files are to be ours, and uid 0 is not mapped (EOVERFLOW).
            // For that same reason this does not cost the capabilities.
            self.change_ids(report)?;
        }
        if let Some(root) = &self.root {
            root.build(report, &mut *trees)?;
        }

        // Once more after the ids, as changing them clears it.
        report.begin(Stage::DeathSignal, 0);
        self.die_with_launcher()?;

        // From here on nothing of the launcher's is open but what was granted.
        report.begin(Stage::Descriptors, 0);
        self.descriptors.arrange()?;

        report.begin(Stage::Directory, 0);
        syscall::enter(&self.directory)?;
        syscall::set_umask(self.umask);

        // Nothing below needs a capability, and the init must not have one. The bounding set first,
        // as that itself needs one.
        report.begin(Stage::Capabilities, 0);
        if !is_off(Layer::Capabilities) {
            capabilities::bound()?;
        }
        if !self.namespaced {
            // Orphans come to the init, as they do in a pid namespace, and it must find them.
            syscall::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0)?;
            if let Ok(children) = syscall::open(c"/proc/thread-self/children", libc::O_RDONLY) {
                if children.as_raw_fd() == CHILDREN {
                    std::mem::forget(children);
                } else {
                    syscall::duplicate_onto(children.as_raw_fd(), CHILDREN, true)?;
                }
            }
            self.change_ids(report)?;
            report.begin(Stage::Capabilities, 1);
        }
        if !is_off(Layer::Capabilities) {
            capabilities::clear()?;
        }

        // Landlock and seccomp are given to the unprivileged only with this.
        report.begin(Stage::NoNewPrivs, 0);
        syscall::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;

        // After the last mount and the last file that is ours to open: rules bind to inodes.
        if let Some(rules) = &self.rules {
            self.landlock(rules, report)?;
        }

        report.begin(Stage::Fork, 0);
        // Out of the launcher's session, so that its terminal signals nobody here twice.
        syscall::new_session()
    }

    fn die_with_launcher(&self) -> Call {
        syscall::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0)?;
        // It may have ended before: then no signal would ever come, and getppid() is 0 in a pid
        // namespace, so ask its descriptor.
        if syscall::is_alive(self.launcher.as_raw_fd()) { Ok(()) } else { Err(Errno::EOWNERDEAD) }
    }

    fn change_ids(&self, report: &Report) -> Call {
        report.begin(Stage::Ids, 0);
        if self.ids.change {
            // The group first: changing it needs what changing the uid may take away.
            syscall::clear_groups()?;
            syscall::set_gid(self.ids.gid)?;
            syscall::set_uid(self.ids.uid)?;
        }
        Ok(())
    }

    fn landlock(&self, rules: &Rules, report: &Report) -> Call {
        report.begin(Stage::Canary, 0);
        // The positive control: what is to be denied must have been possible.
        drop(syscall::open(&self.canary, libc::O_RDONLY)?);
        report.begin(Stage::Landlock, 0);
        // SAFETY: `arrange` has put the program's descriptor there, and nothing closes it before exec.
        let program = unsafe { BorrowedFd::borrow_raw(PROGRAM) };
        let program = self.descriptors.program.is_some().then_some(program);
        let status = rules.restrict(program)?;
        report.landlock(status);
        report.begin(Stage::Canary, 1);
        match syscall::open(&self.canary, libc::O_RDONLY) {
            Err(Errno::EACCES) => report.canary_denied(),
            // Not restricted after all, and said so.
            Ok(_) if status == LandlockStatus::None => {}
            // It claims to restrict, and does not.
            Ok(_) => return Err(Errno::EPROTO),
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// Starts the program beneath this process; gives the init that this process becomes.
    fn start(&self, report: &Report) -> Call<Init> {
        report.begin(Stage::Fork, 1);
        // SAFETY: both sides go on within this file, which keeps the promise.
        let program = unsafe { syscall::fork() }?;
        if program == 0 {
            let errno = match self.become_program(report) {
                Err(errno) => errno,
                Ok(never) => match never {},
            };
            report.fail(errno);
            syscall::exit(1)
        }
        // Only the verdict stays open: a pipe must not be held open by the init.
        syscall::close_range(0, VERDICT - 1)?;
        Ok(Init { program, verdict: VERDICT, children: (!self.namespaced).then_some(CHILDREN) })
    }

    /// The program's process, from its first instruction to its exec.
    fn become_program(&self, report: &Report) -> Call<std::convert::Infallible> {
        // Inherited from the init's, which has the launcher's; without a pid namespace the program
        // would outlive the init.
        syscall::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0)?;
        syscall::new_session()?;

        // Here rather than before the fork: the init is a copy of the launcher and may be larger than
        // the program is allowed to become.
        for (index, &(resource, limit)) in self.limits.iter().enumerate() {
            report.begin(Stage::Limits, index);
            syscall::set_limit(resource, limit)?;
        }

        // The launcher learns our pid in its own terms from the credentials of this message.
        report.begin(Stage::Seccomp, 0);
        syscall::send_bytes(CONTROL, &[1])?;
        syscall::block_signals(false)?;

        // Last, as it forbids most of the above. What follows is allowed by every profile.
        self.confine_calls()
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL)))?;
        report.begin(Stage::Exec, 0);
        let (arguments, environment) = (&self.arguments.pointers, &self.environment.pointers);
        // SAFETY: both are null-terminated arrays of pointers into strings that the plan owns.
        Err(unsafe {
            match &self.path {
                Some(path) => syscall::execute(path, arguments.as_ptr(), environment.as_ptr()),
                None => {
                    syscall::execute_descriptor(PROGRAM, arguments.as_ptr(), environment.as_ptr())
                }
            }
        })
    }

    fn confine_calls(&self) -> std::io::Result<()> {
        if self.descriptors.learner.is_none() {
            return seccomp::install(&self.filter);
        }
        let listener = seccomp::install_asking(&self.filter)?;
        // Until it has arrived nobody answers, and these are calls that need not be asked about.
        let told = learning::told(self.namespaced, self.ids.own);
        syscall::send_descriptor(LEARNER, told, listener)?;
        // With a copy here the program would wait for itself if nobody else listens.
        Ok(syscall::close_range(listener, listener)?)
    }
}

impl Descriptors {
    /// Puts each in its place and closes the rest.
    fn arrange(&self) -> Call {
        let [stdin, stdout, stderr] = self.stdio;
        let slots: [(Option<RawFd>, RawFd, bool); 8] = [
            (Some(stdin), 0, false),
            (Some(stdout), 1, false),
            (Some(stderr), 2, false),
            (self.bootstrap, 3, false),
            (Some(self.control), CONTROL, true),
            (self.program, PROGRAM, true),
            (self.learner, LEARNER, true),
            (Some(self.verdict), VERDICT, true),
        ];
        let mut copies = [-1; 8];
        for ((from, ..), copy) in slots.iter().zip(&mut copies) {
            if let Some(from) = from {
                *copy = syscall::duplicate_above(*from, ABOVE_SLOTS)?;
            }
        }
        for ((from, to, close_on_exec), copy) in slots.iter().zip(copies) {
            match from {
                Some(_) => syscall::duplicate_onto(copy, *to, *close_on_exec)?,
                None => syscall::close_range(*to, *to)?,
            }
        }
        syscall::close_range(LAST_SLOT + 1, RawFd::MAX)
    }
}
