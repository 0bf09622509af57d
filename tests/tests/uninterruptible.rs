//! A plugin that waits in the kernel, where no signal reaches it (state D): the one that nobody can kill.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_tests::census::is_uninterruptible;
use bulkhead_tests::package::Package;
use bulkhead_tests::process::{DEADLINE, Program};
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, test_name};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use tempfile::TempDir;

const BUDGET: Duration = Duration::from_secs(1);
/// How long after its SIGKILL a process may take to be gone before that is an error.
const GRACE: Duration = Duration::from_secs(5);

/// A file system that can be frozen, where everybody may write. It is mounted for this thread and what it starts,
/// until the last of them has ended.
struct Disk {
    mounted: TempDir,
    _image: TempDir,
}

impl Disk {
    fn mount() -> Self {
        let (image, mounted) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = image.path().join("disk.img");
        std::fs::File::create(&file).unwrap().set_len(16 << 20).unwrap();
        Program::new("mkfs.ext4").arg("-q").arg(&file).run().expect(0);
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        Program::new("mount").args(["--make-rprivate", "/"]).run().expect(0);
        Program::new("mount").args(["-o", "loop"]).arg(&file).arg(mounted.path()).run().expect(0);
        std::fs::set_permissions(mounted.path(), Permissions::from_mode(0o777)).unwrap();
        Self { mounted, _image: image }
    }

    fn path(&self) -> &Path {
        self.mounted.path()
    }

    /// Lets every write wait until that is dropped.
    fn freeze(&self) -> Frozen<'_> {
        Program::new("fsfreeze").arg("--freeze").arg(self.path()).run().expect(0);
        Frozen(self.path())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // So that its directory can be removed.
        let _ = Program::new("umount").arg("--lazy").arg(self.path()).run();
    }
}

struct Frozen<'a>(&'a Path);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = Program::new("fsfreeze").arg("--unfreeze").arg(self.0).run();
    }
}

/// Waits for the process of a plugin that waits in the kernel.
fn wait_until_one_is_uninterruptible(service: &Service) -> i32 {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = service.plugin_processes().into_iter().find(|pid| is_uninterruptible(*pid));
        if let Some(pid) = found {
            return pid;
        }
        assert!(Instant::now() < deadline, "nothing waits in the kernel");
        std::thread::yield_now();
    }
}

#[test]
fn one_that_the_kernel_holds_is_reported_in_time_and_gone_once_it_lets_go() {
    // A process that nobody can kill is for a machine that is thrown away.
    if !lane::promised() {
        lane::skip(test_name!(), "it runs in the virtual machine only");
        return;
    }
    if !lane::root(test_name!()) {
        return;
    }
    let disk = Disk::mount();
    let mut service = Service::with(&format!("[mounts]\nread_write = [{:?}]", disk.path()));
    service.enable(&Package::hostile("sibling", "well", ""));
    let usual = (service.plugin_processes().len(), service.compartments().len());
    let manifest = format!("[sandbox]\nwrite = [{:?}]", disk.path());
    service.enable(&Package::witness("victim", &manifest));
    let write = |name: &str| {
        let path = json!(disk.path().join(name));
        service.command(["call", "victim", "write", &path.to_string()])
    };
    // The control: what will wait is done at once.
    assert_eq!(write("before").run().expect(0).stdout.trim(), "true");

    let frozen = disk.freeze();
    let calling = write("meanwhile").start();
    let held = wait_until_one_is_uninterruptible(&service);
    let budget = format!("{}ms", BUDGET.as_millis());
    let disable = service.command(["disable", "victim", "--timeout", &budget, "--json"]);
    let (mut admin, mut calls) = (service.admin(), 0);
    let asked = Instant::now();
    let disabled = std::thread::scope(|scope| {
        let disabled = scope.spawn(|| disable.run());
        while !disabled.is_finished() {
            let reply = admin.post("/v1/plugins/sibling/call/echo", "[7]").unwrap();
            assert_eq!(reply.json(), json!([7]), "after {calls} calls");
            calls += 1;
        }
        disabled.join().unwrap()
    });
    let took = asked.elapsed();
    assert_eq!(disabled.code(), 5, "{}", disabled.stderr);
    let error: Value = serde_json::from_str(&disabled.stderr).unwrap();
    assert_eq!(error["code"], "TIMEOUT", "{error}");
    assert_eq!(error["details"]["stage"], "kill", "{error}");
    assert_eq!(error["details"]["budgetMs"], BUDGET.as_millis() as u64, "{error}");
    assert!(took >= BUDGET + GRACE, "{took:?}: it was given up early");
    assert!(took < BUDGET + GRACE + lane::slack(), "{took:?}");
    assert!(calls > 1, "{calls}");
    // It is said what there is: it was killed, and is there.
    let plugin = service.json(["inspect", "victim"]);
    assert_eq!(plugin["state"], "disabled", "{plugin}");
    assert_eq!(plugin["lastError"]["details"]["stage"], "kill", "{plugin}");
    assert!(is_uninterruptible(held), "{held} has gone on");

    drop(frozen);
    assert_ne!(calling.wait().code(), 0, "whoever called it has no reply of one that was killed");
    let deadline = Instant::now() + DEADLINE;
    while (service.plugin_processes().len(), service.compartments().len()) != usual {
        assert!(Instant::now() < deadline, "still there: {:?}", service.remains());
        std::thread::yield_now();
    }
    service.json(["enable", "victim"]);
    assert_eq!(write("after").run().expect(0).stdout.trim(), "true");
    let plugin = service.json(["inspect", "victim"]);
    assert_eq!((&plugin["state"], &plugin["lastError"]), (&json!("enabled"), &Value::Null));
    assert_eq!(service.json(["disable", "victim"])["state"], "disabled");
    let said = service.stop().expect(0).stderr;
    assert!(said.contains("a process waits in the kernel (state D in ps)"), "{said}");
}
