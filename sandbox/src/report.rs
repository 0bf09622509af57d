//! What the new process tells of itself, on one page of memory shared with it.
//!
//! The child writes where it is before each step, so that even a child that is killed has told how
//! far it came, and at no cost: no message is sent. The end of the start is told by a socket: its last
//! copy in the child is closed by the exec, or by death.

use std::num::NonZero;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::stage::Stage;

/// The fields are written by the child and read by the launcher after the child's socket closed.
#[repr(C)]
struct Fields {
    stage: AtomicU32,
    subject: AtomicU32,
    errno: AtomicI32,
    landlock: AtomicU32,
    canary: AtomicU32,
    proc_errno: AtomicI32,
}

/// A page shared between launcher and child.
#[derive(Debug)]
pub(crate) struct Report {
    page: NonNull<Fields>,
}

/// What Landlock said of itself in the child (`RestrictionStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LandlockStatus {
    Full,
    Partial,
    None,
}

const LENGTH: NonZero<usize> = NonZero::new(4096).expect("4096 is not 0");

impl Report {
    pub(crate) fn new() -> nix::Result<Report> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other.
        let page = unsafe { mmap_anonymous(None, LENGTH, protection, MapFlags::MAP_SHARED) }?;
        Ok(Report { page: page.cast() })
    }

    fn fields(&self) -> &Fields {
        // SAFETY: the mapping is as long as a page, page-aligned, zeroed by the kernel (a valid value
        // of every field), lives as long as `self`, and is only accessed through atomics.
        unsafe { self.page.as_ref() }
    }

    /// Child: the step that begins, and which of several like it.
    pub(crate) fn begin(&self, stage: Stage, subject: usize) {
        self.fields().subject.store(subject as u32, Ordering::Relaxed);
        self.fields().stage.store(stage as u32, Ordering::Relaxed);
    }

    /// Child: the step that was begun failed.
    pub(crate) fn fail(&self, errno: Errno) {
        self.fields().errno.store(errno as i32, Ordering::Release);
    }

    /// Child: what Landlock said.
    pub(crate) fn landlock(&self, status: LandlockStatus) {
        let value = match status {
            LandlockStatus::None => 0,
            LandlockStatus::Partial => 1,
            LandlockStatus::Full => 2,
        };
        self.fields().landlock.store(value, Ordering::Relaxed);
    }

    /// Child: the file that must not open did not, though it had before.
    pub(crate) fn canary_denied(&self) {
        self.fields().canary.store(1, Ordering::Relaxed);
    }

    /// Child: no private /proc could be mounted.
    pub(crate) fn no_proc(&self, errno: Errno) {
        self.fields().proc_errno.store(errno as i32, Ordering::Relaxed);
    }

    /// Launcher: what was told, once the child's socket is closed.
    pub(crate) fn told(&self) -> Told {
        let fields = self.fields();
        let errno = |value: &AtomicI32| match value.load(Ordering::Acquire) {
            0 => None,
            errno => Some(Errno::from_raw(errno)),
        };
        let stage = fields.stage.load(Ordering::Relaxed) as usize;
        Told {
            failed: errno(&fields.errno),
            stage: Stage::ALL.get(stage).copied().unwrap_or(Stage::Clone),
            subject: fields.subject.load(Ordering::Relaxed) as usize,
            landlock: match fields.landlock.load(Ordering::Relaxed) {
                2 => LandlockStatus::Full,
                1 => LandlockStatus::Partial,
                _ => LandlockStatus::None,
            },
            canary_denied: fields.canary.load(Ordering::Relaxed) == 1,
            no_proc: errno(&fields.proc_errno),
        }
    }

    /// Takes the page out of this process; in the init, which has nothing more to tell.
    pub(crate) fn detach(&self) {
        // SAFETY: called in the child alone, as the last use of the page there; the launcher's
        // mapping is its own. Failing leaves a page that nothing reads.
        let _ = unsafe { munmap(self.page.cast(), LENGTH.get()) };
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.detach();
    }
}

/// What the child told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) failed: Option<Errno>,
    pub(crate) stage: Stage,
    pub(crate) subject: usize,
    pub(crate) landlock: LandlockStatus,
    pub(crate) canary_denied: bool,
    pub(crate) no_proc: Option<Errno>,
}
