//! Between the clone and the exec nothing allocates: another thread of the launcher may have held the
//! allocator's lock at the clone, and in the child nobody would ever release it. It would be a rare
//! hang in production; here it is an abort at the first allocation.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]
#![allow(unsafe_code, reason = "an allocator of its own, and a fork for the control")]

mod lane;
mod run;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI32, Ordering};

use bulkhead_sandbox::seccomp::Profile;
use bulkhead_sandbox::{Mount, Network, Policy, ProgramFile, Status};
use run::{Command, data, program};

/// Aborts in any process but the one that armed it.
struct OneProcess;

static ARMED_FOR: AtomicI32 = AtomicI32::new(0);

impl OneProcess {
    fn check() {
        let armed_for = ARMED_FOR.load(Ordering::Relaxed);
        // SAFETY: neither call has a precondition.
        unsafe {
            if armed_for != 0 && libc::getpid() != armed_for {
                libc::abort();
            }
        }
    }
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for OneProcess {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        OneProcess::check();
        // SAFETY: promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        OneProcess::check();
        // SAFETY: promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: OneProcess = OneProcess;

#[test]
fn the_child_neither_allocates_nor_frees() {
    let tree = lane::tree();
    let identity = lane::identity();
    let directory = data(identity);
    ARMED_FOR.store(std::process::id() as i32, Ordering::Relaxed);

    // The control: a child that allocates is seen.
    // SAFETY: the child only allocates, which is to abort it, and exits.
    let control = unsafe { libc::fork() };
    if control == 0 {
        drop(std::hint::black_box(vec![0_u8; 64]));
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(control), None).unwrap();
    assert!(
        matches!(status, nix::sys::wait::WaitStatus::Signaled(_, nix::sys::signal::SIGABRT, _)),
        "{status:?}"
    );

    // Every branch of the recipe: mounts, /proc, ports, each profile, by path and by descriptor.
    for profile in Profile::ALL {
        for network in [Network::None, Network::Ports { connect: vec![443], bind: vec![8080] }] {
            let mut policy = Policy { profile, network, ..program() };
            policy.filesystem.proc = true;
            policy.limits.file_size = Some(1 << 20);
            policy.filesystem.mounts.push(Mount::read_write(directory.path(), "/data"));
            let mut command = Command::new(policy.clone(), "/bin/true", &[]).tree(tree.as_ref());
            command.identity = identity;
            assert_eq!(command.run().exit.status, Status::Exited(0), "{profile}");
            let mut command = Command::new(policy, "true", &[]).tree(tree.as_ref());
            command.identity = identity;
            command.file =
                ProgramFile::Descriptor(std::fs::File::open("/bin/true").unwrap().into());
            assert_eq!(command.run().exit.status, Status::Exited(0), "{profile} by descriptor");
        }
    }
    // Nor does it where a step fails.
    let mut policy = program();
    policy.filesystem.mounts.push(Mount::read_only("/no/such/source", "/data"));
    for command in
        [Command::new(policy, "/bin/true", &[]), Command::new(program(), "/no/such/program", &[])]
    {
        let Err(error) = command.start() else { panic!("started") };
        assert!(matches!(error, bulkhead_sandbox::SpawnError::Stage { .. }), "{error}");
    }
}
