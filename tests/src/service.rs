//! A service of one's own: `bulkhead serve` with its state, socket and configuration in a temporary
//! directory.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::admin::Admin;
use crate::census::processes;
use crate::lane;
use crate::package::Package;
use crate::process::{DEADLINE, Outcome, Program, Running, apart, bulkhead};
use crate::program;

/// A running service. Dropped, it is killed, and its launcher's death ends the rest.
pub struct Service {
    // Before the directory, which is removed after it.
    running: Option<Running>,
    directory: TempDir,
    /// What its command line has besides.
    arguments: Vec<String>,
    /// Variables that it has besides the test's own.
    environment: Vec<(String, String)>,
    /// Its state lies on a file system of its own, which only it sees.
    disk: Option<Disk>,
}

/// A file system of a service's own.
enum Disk {
    /// In memory, of so many bytes, and new at each start.
    Small(u64),
    /// An image, with what it had before: ext4 that enforces limits of users. The service is without
    /// CAP_SYS_ADMIN, as systemd starts it.
    WithQuotas(PathBuf),
}

impl Service {
    /// Starts one and waits until it answers: strict where the lane promises every layer, else
    /// best-effort.
    pub fn start() -> Self {
        Self::with("")
    }

    /// The same, with more lines of configuration (`bulkhead.toml`).
    pub fn with(lines: &str) -> Self {
        Self::configured(if lane::promised() { "strict" } else { "best-effort" }, lines)
    }

    /// The same, in that mode whatever the lane promises.
    pub fn in_mode(mode: &str) -> Self {
        Self::configured(mode, "")
    }

    fn configured(mode: &str, lines: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The supervisor's user and the plugins' must get through to what is theirs.
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let path = directory.path().display();
        let uids = uids();
        // Named, as a user `bulkhead` may come into being while the test runs.
        let config = format!(
            "user = \"{}\"\nstate = \"{path}/state\"\nruntime = \"{path}/run\"\ntrust = \"{path}/trust\"\nmode = \"{mode}\"\nallow_directories = true\n{lines}\n\
             [uids]\nfirst = {}\ncount = {}\n",
            uids.start,
            uids.start,
            uids.len()
        );
        std::fs::write(directory.path().join("bulkhead.toml"), config).unwrap();
        let mut service = Self {
            running: None,
            directory,
            arguments: Vec::new(),
            environment: Vec::new(),
            disk: None,
        };
        service.run_again();
        service
    }

    /// The same, after it was stopped, on a new and small disk. Needs root.
    pub fn on_small_disk(lines: &str, bytes: u64) -> Self {
        Self::on_disk(lines, |_| Disk::Small(bytes))
    }

    /// The same, on a new disk that enforces limits of users. Needs root and [`lane::quotas`].
    pub fn on_disk_with_quotas(lines: &str, bytes: u64) -> Self {
        Self::on_disk(lines, |directory| {
            let image = directory.join("disk.img");
            make_disk_with_quotas(&image, bytes);
            Disk::WithQuotas(image)
        })
    }

    fn on_disk(lines: &str, make: impl FnOnce(&Path) -> Disk) -> Self {
        let mut service = Self::with(lines);
        service.stop().expect(0);
        service.disk = Some(make(service.directory()));
        service.run_again();
        service
    }

    /// A program that sees the disk that only the service sees.
    pub fn beside(&self, program: impl AsRef<OsStr>) -> Program {
        let pid = self.pid().to_string();
        Program::new("nsenter").args(["--mount", "--target", &pid]).arg(program)
    }

    /// Its state, where that lies on a disk that only the service sees.
    pub fn state_within(&self) -> PathBuf {
        let state = self.directory.path().join("state");
        Path::new("/proc")
            .join(self.pid().to_string())
            .join("root")
            .join(state.strip_prefix("/").unwrap())
    }

    /// What it has in its environment from its next start on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// What its command line has besides from its next start on.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
    }

    /// Starts it on the same state, after [`Service::stop`] or a kill, and waits until it answers.
    pub fn run_again(&mut self) {
        let path = self.directory.path().join("notify");
        let _ = std::fs::remove_file(&path);
        let notify = UnixDatagram::bind(&path).unwrap();
        notify.set_read_timeout(Some(DEADLINE)).unwrap();
        let config = self.directory.path().join("bulkhead.toml");
        let state = self.directory.path().join("state");
        let mut program = match &self.disk {
            None => bulkhead(["serve"]),
            Some(Disk::Small(bytes)) => on_mount(
                "mount -t tmpfs -o size=$1,mode=755 none",
                OsStr::new(&bytes.to_string()),
                &state,
            )
            .args(apart())
            .arg(program::bulkhead())
            .arg("serve"),
            Some(Disk::WithQuotas(image)) => {
                on_mount("mount -o loop,usrquota \"$1\"", image.as_os_str(), &state)
                    .args(apart())
                    .args(["setpriv", "--bounding-set", "-sys_admin"])
                    .arg(program::bulkhead())
                    .arg("serve")
            }
        };
        program = program
            .arg("--config")
            .arg(config)
            .args(&self.arguments)
            .env("NOTIFY_SOCKET", &path)
            // As a service manager would give them; most tests have none.
            .env("CREDENTIALS_DIRECTORY", self.directory.path().join("credentials"));
        for (name, value) in &self.environment {
            program = program.env(name, value);
        }
        self.running = Some(program.start());
        let mut message = [0; 4096];
        loop {
            // Fails at the deadline, and the service is killed with what it has written so far.
            let length = notify.recv(&mut message).expect("the service was not ready in time");
            if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return;
            }
        }
    }

    /// The launcher's pid.
    pub fn pid(&self) -> i32 {
        self.running.as_ref().unwrap().pid()
    }

    /// Its directory, with `state`, `run` and `bulkhead.toml`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("bulkhead.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("run/admin.sock")
    }

    /// A connection to its admin API.
    pub fn admin(&self) -> Admin {
        Admin::connect(&self.socket()).unwrap()
    }

    /// `bulkhead --socket … ARGUMENTS`.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Program {
        let mut program = bulkhead([OsStr::new("--socket"), self.socket().as_os_str()]);
        for argument in arguments {
            program = program.arg(argument);
        }
        program
    }

    /// Runs a verb that must succeed; its reply.
    pub fn json<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Value {
        let outcome = self.command(arguments).arg("--json").run().expect(0);
        serde_json::from_str(&outcome.stdout).unwrap()
    }

    /// Runs a verb that must fail; its error, and its exit code as `exitCode`.
    pub fn error<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Value {
        let outcome = self.command(arguments).arg("--json").run();
        assert_ne!(outcome.code(), 0, "it succeeded: {}", outcome.stdout);
        let mut error: Value = serde_json::from_str(&outcome.stderr)
            .unwrap_or_else(|_| panic!("not an error in JSON: {}", outcome.stderr));
        error["exitCode"] = outcome.code().into();
        error
    }

    /// Installs a plugin.
    pub fn install(&self, package: &Package) -> Value {
        self.json(["install", "--yes", package.path().to_str().unwrap()])
    }

    /// Installs and enables a plugin.
    pub fn enable(&self, package: &Package) -> Value {
        self.install(package);
        self.json(["enable", package.id()])
    }

    /// The pid of the supervisor. One that was just killed is waited for.
    ///
    /// # Panics
    /// Where there is none at the deadline.
    pub fn supervisor(&self) -> i32 {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let found = processes().into_iter().find(|process| {
                process.parent == self.pid() && process.command.contains("supervise")
            });
            if let Some(supervisor) = found {
                return supervisor.pid;
            }
            assert!(Instant::now() < deadline, "the launcher has no supervisor");
            std::thread::yield_now();
        }
    }

    /// Waits until `wanted` is so of a plugin as `inspect` shows it.
    ///
    /// # Panics
    /// Where it is not at the deadline.
    pub fn wait_for(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        // Every change of a plugin's state is told as an event, after which it is looked at again.
        let mut events = self.command(["events", "--follow", "--json"]).start();
        let deadline = Instant::now() + DEADLINE;
        loop {
            let plugin = self.json(["inspect", id]);
            if wanted(&plugin) {
                return plugin;
            }
            assert!(Instant::now() < deadline, "it is not so, though there were events: {plugin}");
            events.stdout.line(|line| line.contains(id));
        }
    }

    /// The processes of its plugins that are there now: those with a uid of its range. Without
    /// privilege, the launcher's children but the supervisor.
    pub fn plugin_processes(&self) -> Vec<i32> {
        let all = processes().into_iter();
        if nix::unistd::geteuid().is_root() {
            let uids = uids();
            all.filter(|p| uids.contains(&p.uid) && p.uid != uids.start).map(|p| p.pid).collect()
        } else {
            let launcher = self.running.as_ref().map(Running::pid);
            all.filter(|p| Some(p.parent) == launcher && !p.command.contains("supervise"))
                .map(|p| p.pid)
                .collect()
        }
    }

    /// The cgroups of its compartments that are there now.
    pub fn compartments(&self) -> Vec<String> {
        let pid = self.pid();
        let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned();
        let mut found = Vec::new();
        for hierarchy in ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"] {
            // Beside the leaf that it has moved to; or, at the root of all, in one of its own.
            let beside = Path::new(hierarchy).join(own.trim_start_matches('/')).join("..");
            let made = std::fs::read_dir(hierarchy).into_iter().flatten().flatten();
            let made = made.map(|entry| entry.path()).filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(&format!("bulkhead-{pid}."))
            });
            for directory in std::iter::once(beside).chain(made) {
                let compartments = std::fs::read_dir(directory.join("plugins"));
                for entry in compartments.into_iter().flatten().flatten() {
                    if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        found.push(entry.file_name().to_string_lossy().into_owned());
                    }
                }
            }
        }
        found
    }

    /// What there is of packages and plugins: in the store, storage, spooled, running.
    pub fn remains(&self) -> Vec<String> {
        let state = self.directory.path().join("state");
        let mut found = Vec::new();
        for below in ["store", "plugins", "supervisor", "supervisor/archives"] {
            for entry in std::fs::read_dir(state.join(below)).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                // The supervisor's own.
                let own = name.starts_with("bulkhead.db") || name == "logs" || name == "archives";
                if below != "supervisor" || !own {
                    found.push(format!("{below}/{name}"));
                }
            }
        }
        found.extend(self.compartments().into_iter().map(|name| format!("cgroup {name}")));
        found.extend(self.plugin_processes().into_iter().map(|pid| format!("process {pid}")));
        found
    }

    /// Waits until the supervisor that was, and every plugin's process, is gone.
    ///
    /// # Panics
    /// Where they are not at the deadline.
    pub fn wait_until_nothing_runs(&self, supervisor: i32) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = self.plugin_processes();
            if left.is_empty() && !processes().iter().any(|process| process.pid == supervisor) {
                return;
            }
            assert!(Instant::now() < deadline, "still there: {left:?}, or {supervisor}");
            // Nothing tells of the end of a process that is not ours.
            std::thread::yield_now();
        }
    }

    /// Asks it to end, as systemd would, and waits for that.
    pub fn stop(&mut self) -> Outcome {
        let running = self.running.take().unwrap();
        running.signal(Signal::SIGTERM);
        running.wait()
    }

    /// `kill -9` of the launcher.
    pub fn kill(&mut self) -> Outcome {
        let running = self.running.take().unwrap();
        running.signal(Signal::SIGKILL);
        running.wait()
    }
}

/// A program that is named by the arguments to follow, with something mounted that only it sees.
fn on_mount(mount: &str, what: &OsStr, to: &Path) -> Program {
    let script = format!("{mount} \"$2\" && shift 2 && exec \"$@\"");
    Program::new("unshare")
        .args(["--mount", "--propagation=private", "sh", "-c", &script, "sh"])
        .arg(what)
        .arg(to)
}

/// An image of an ext4 file system with quotas of users.
pub fn make_disk_with_quotas(image: &Path, bytes: u64) {
    std::fs::File::create(image).unwrap().set_len(bytes).unwrap();
    Program::new("mkfs.ext4")
        .args(["-q", "-O", "quota", "-E", "quotatype=usrquota,root_owner=0:0"])
        .arg(image)
        .run()
        .expect(0);
}

/// Whether this kernel mounts one.
pub(crate) fn mounts_disks_with_quotas() -> bool {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("disk.img");
    make_disk_with_quotas(&image, 8 << 20);
    let mounted =
        on_mount("mount -o loop,usrquota \"$1\"", image.as_os_str(), directory.path()).arg("true");
    mounted.run().code() == 0
}

/// The uids of this test's services: no other test has them, as each runs in a process of its own.
fn uids() -> Range<u32> {
    let first = 1_910_000_000 + std::process::id() % 100_000 * 100;
    first..first + 100
}
