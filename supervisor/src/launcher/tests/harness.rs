//! A launcher under test, and the supervisor's end of its link.

use std::collections::VecDeque;
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bulkhead_sandbox::descriptors::{recv_with_fds, send_with_fds};
use bulkhead_sandbox::seccomp::Profile;
use bulkhead_sandbox::{CpuMax, Limits, Policy, Strictness};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;

use super::roles;
use crate::failure::Failure;
use crate::id::{Digest, PluginId};
use crate::link::{
    self, Exited, Json, MAX_DESCRIPTORS, MAX_PACKET, Message, Numbered, Reply, Request, Spawn,
    Spawned,
};

/// For what must happen soon on a busy machine. Nothing waits for it to pass.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Service {
    directory: tempfile::TempDir,
    tests: UnixListener,
    process: Child,
}

impl Service {
    /// Starts a launcher; `extra` is added to its configuration.
    pub(super) fn start(extra: &str) -> Self {
        let heartbeat = if extra.contains("heartbeat") { "" } else { "heartbeat = \"1m\"\n" };
        Self::with(&format!("allow_directories = true\n{heartbeat}{extra}\n"))
    }

    /// Starts a launcher with this configuration and directories of its own.
    pub(super) fn with(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The supervisor's user must reach the socket.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let socket = directory.path().join("test.sock");
        let tests = UnixListener::bind(&socket).unwrap();
        fs::set_permissions(&socket, Permissions::from_mode(0o777)).unwrap();
        let at = |name: &str| directory.path().join(name);
        let config = format!(
            "state = {:?}\nruntime = {:?}\ntrust = {:?}\nmode = \"best-effort\"\n{config}",
            at("state"),
            at("run"),
            at("trust"),
        );
        fs::write(at("bulkhead.toml"), config).unwrap();
        fs::set_permissions(at("bulkhead.toml"), Permissions::from_mode(0o644)).unwrap();
        let process = launcher(directory.path());
        Self { directory, tests, process }
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// The next supervisor that the launcher starts.
    pub(super) fn supervisor(&self) -> Supervisor {
        assert!(readable(&self.tests, PATIENCE), "no supervisor was started; {}", self.log());
        let (stream, _) = self.tests.accept().unwrap();
        let mut packet = recv_with_fds(stream.as_fd(), 4, 1).unwrap();
        let pid = u32::from_ne_bytes(packet.data.try_into().unwrap());
        let link = packet.descriptors.pop().unwrap();
        setsockopt(&link, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE.as_secs() as i64, 0))
            .unwrap();
        Supervisor {
            link,
            stream,
            pid: Pid::from_raw(pid as i32),
            number: 0,
            told: VecDeque::new(),
        }
    }

    /// A supervisor that is ready.
    pub(super) fn ready(&self) -> Supervisor {
        let mut supervisor = self.supervisor();
        supervisor.inherit();
        supervisor.done(Request::Ready);
        supervisor
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    /// Waits for the launcher's end.
    pub(super) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.process)
    }

    /// A directory with a plugin whose entry is `bin/entry`, a copy of `program`.
    pub(super) fn package(&self, name: &str, program: &Path) -> PathBuf {
        let package = self.path().join(name);
        fs::create_dir_all(package.join("bin")).unwrap();
        fs::write(package.join("plugin.toml"), format!("id = {name:?}\n")).unwrap();
        fs::copy(program, package.join("bin/entry")).unwrap();
        package
    }

    /// A tree of the store whose list names so many files, none of which is there.
    pub(super) fn long_list(&self, files: usize) -> Digest {
        let line = |number| format!("{} 0444 share/{number:0100}\n", Digest::of(b""));
        let text: String = (0..files).map(line).collect();
        let digest = Digest::of(text.as_bytes());
        let store = self.path().join("state/store");
        fs::create_dir(store.join(digest.to_string())).unwrap();
        fs::write(store.join(format!("{digest}.sums")), text).unwrap();
        digest
    }

    /// Starts a second launcher with the same configuration.
    pub(super) fn another(&self) -> Child {
        launcher(self.path())
    }
}

fn launcher(directory: &Path) -> Child {
    let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
    // The harness of the test binary has a second thread, to which a signal would be delivered that
    // only the launcher's thread blocks. So it inherits a mask that blocks them in both.
    let before = SigSet::thread_get_mask().unwrap();
    SigSet::all().thread_block().unwrap();
    let process = Command::new(std::env::current_exe().unwrap())
        .args(roles::arguments("launcher", directory))
        .env("BULKHEAD_LOG", "debug")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    before.thread_set_mask().unwrap();
    process
}

/// Waits for the end of a launcher: its standard input then has no reader.
pub(super) fn wait(process: &mut Child) -> ExitStatus {
    let stdin = process.stdin.as_ref().expect("it is a pipe, and stays ours");
    let mut polled = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
    let ended = poll(&mut polled, PollTimeout::try_from(PATIENCE).unwrap()).unwrap() > 0;
    assert!(ended, "launcher {} does not end", process.id());
    process.wait().unwrap()
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.process.try_wait().unwrap().is_none() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        if std::thread::panicking() {
            eprintln!("the launcher's log:\n{}", self.log());
        }
    }
}

/// The supervisor that a test plays. Dropping it ends the process that holds its place.
pub(super) struct Supervisor {
    link: OwnedFd,
    stream: UnixStream,
    pid: Pid,
    number: u64,
    told: VecDeque<(Message, Vec<OwnedFd>)>,
}

impl Supervisor {
    pub(super) fn send(&mut self, request: Request) -> u64 {
        self.send_with(request, &[])
    }

    pub(super) fn send_with(&mut self, request: Request, descriptors: &[BorrowedFd<'_>]) -> u64 {
        self.number += 1;
        let packet = link::encode(&Numbered { number: self.number, request }).unwrap();
        send_with_fds(self.link.as_fd(), &packet, descriptors).unwrap();
        self.number
    }

    pub(super) fn link(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    pub(super) fn send_garbage(&self) {
        send_with_fds(self.link.as_fd(), b"\xff\xfe\xfd", &[]).unwrap();
    }

    fn receive(&mut self) -> (Message, Vec<OwnedFd>) {
        let packet = recv_with_fds(self.link.as_fd(), MAX_PACKET, MAX_DESCRIPTORS).unwrap();
        (link::decode(&packet.data).unwrap(), packet.descriptors)
    }

    /// The next message that is no reply.
    pub(super) fn next(&mut self) -> (Message, Vec<OwnedFd>) {
        if let Some(told) = self.told.pop_front() {
            return told;
        }
        match self.receive() {
            (Message::Reply { number, .. }, _) => panic!("a reply to {number} that nobody awaits"),
            told => told,
        }
    }

    /// Asks and waits for the answer.
    pub(super) fn ask(&mut self, request: Request) -> Result<(Reply, Vec<OwnedFd>), Failure> {
        let asked = self.send(request);
        self.answer(asked)
    }

    /// Waits for the answer to what was sent under that number.
    pub(super) fn answer(&mut self, asked: u64) -> Result<(Reply, Vec<OwnedFd>), Failure> {
        loop {
            match self.receive() {
                (Message::Reply { number, result }, descriptors) => {
                    assert_eq!(number, asked);
                    return match *result {
                        Ok(reply) => Ok((reply, descriptors)),
                        Err(failure) => Err(failure.0),
                    };
                }
                told => self.told.push_back(told),
            }
        }
    }

    /// Waits for the answers to as many requests, in whatever order they come.
    pub(super) fn answers(&mut self, count: usize) -> Vec<Result<Reply, Failure>> {
        let mut answers = Vec::new();
        while answers.len() < count {
            match self.receive() {
                (Message::Reply { result, .. }, _) => answers.push(result.map_err(|json| json.0)),
                told => self.told.push_back(told),
            }
        }
        answers
    }

    pub(super) fn done(&mut self, request: Request) {
        let (reply, _) = self.ask(request).unwrap();
        assert!(matches!(reply, Reply::Done), "{reply:?}");
    }

    pub(super) fn refused(&mut self, request: Request) -> Failure {
        self.ask(request).expect_err("it must be refused")
    }

    /// What it is told at its start: what runs, and exits, up to `Current`.
    pub(super) fn inherit(&mut self) -> Vec<(Message, Vec<OwnedFd>)> {
        let (welcome, descriptors) = self.next();
        assert!(matches!(welcome, Message::Welcome(_)), "{welcome:?}");
        let audit = usize::from(bulkhead_sandbox::kernel_audit::open().is_ok());
        assert_eq!(descriptors.len(), 1 + audit, "the admin listener and the audit stream");
        let mut inherited = Vec::new();
        loop {
            match self.next() {
                (Message::Current, _) => return inherited,
                told => inherited.push(told),
            }
        }
    }

    /// Imports a package and allots storage.
    pub(super) fn install(&mut self, id: &str, package: &Path) -> Digest {
        let (reply, _) = self.ask(Request::Import { source: package.to_owned() }).unwrap();
        let Reply::Imported { digest, .. } = reply else { panic!("{reply:?}") };
        let (reply, _) = self.ask(Request::Allot { id: id.parse().unwrap() }).unwrap();
        assert!(matches!(reply, Reply::Allotted { .. }), "{reply:?}");
        digest
    }

    pub(super) fn spawn(&mut self, spawn: Spawn) -> Running {
        let id = spawn.id.clone();
        let (reply, descriptors) = self.ask(Request::Spawn(Box::new(spawn))).unwrap();
        let Reply::Spawned(spawned) = reply else { panic!("{reply:?}") };
        Running::new(id, spawned, descriptors)
    }

    /// Installs and starts a shell with a script as the plugin `id`.
    pub(super) fn shell(&mut self, service: &Service, id: &str, script: &str) -> Running {
        let package = service.package(id, Path::new("/bin/sh"));
        let digest = self.install(id, &package);
        self.spawn(shell(id, digest, script))
    }

    /// Installs and starts, as `id`, one that hears no SIGTERM; it is up.
    pub(super) fn deaf(&mut self, service: &Service, id: &str) -> Running {
        let script = "trap '' TERM; echo up; while :; do read x <&3; done";
        let mut plugin = self.shell(service, id, script);
        plugin.stdout.wait_for("up");
        plugin
    }

    /// The next exit.
    pub(super) fn exit(&mut self) -> (Exited, Vec<OwnedFd>) {
        match self.next() {
            (Message::Exited(exited), descriptors) => (*exited, descriptors),
            (other, _) => panic!("not an exit: {other:?}"),
        }
    }

    /// `kill -9`.
    pub(super) fn kill(self) {
        kill(self.pid, Signal::SIGKILL).unwrap();
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until the launcher has closed the link: it gave up this supervisor.
    pub(super) fn wait_hangup(&self) {
        assert!(hung_up(&self.stream, PATIENCE), "the supervisor lives on");
    }
}

/// As of a manifest that says nothing of them.
pub(super) fn limits() -> Limits {
    Limits {
        memory: Some(64 << 20),
        cpu: Some(CpuMax::percent(100)),
        file_size: Some(256 << 20),
        ..Limits::default()
    }
}

pub(super) fn shell(id: &str, digest: Digest, script: &str) -> Spawn {
    // A shell forks, which a plugin may not.
    let policy = Policy {
        strictness: Strictness::BestEffort,
        profile: Profile::Program,
        limits: limits(),
        ..Policy::default()
    };
    Spawn {
        id: id.parse().unwrap(),
        digest,
        entry: "bin/entry".into(),
        args: vec!["-c".into(), script.into()],
        env: Vec::new(),
        policy: Json(policy),
    }
}

/// A plugin that was started, as its supervisor has it.
pub(super) struct Running {
    pub(super) id: PluginId,
    pub(super) spawned: Spawned,
    pub(super) session: UnixStream,
    pub(super) stdout: Output,
}

impl Running {
    pub(super) fn new(id: PluginId, spawned: Spawned, descriptors: Vec<OwnedFd>) -> Self {
        let mut descriptors = descriptors.into_iter();
        let session = UnixStream::from(descriptors.next().expect("a session"));
        let stdout = Output(File::from(descriptors.next().expect("standard output")));
        assert!(descriptors.next().is_some(), "standard error");
        Self { id, spawned, session, stdout }
    }

    pub(super) fn stop(&self, term: Duration, kill: Duration) -> Request {
        Request::Stop {
            id: self.id.clone(),
            generation: self.spawned.generation,
            term_in: term,
            kill_in: kill,
        }
    }

    pub(super) fn acknowledge(&self) -> Request {
        Request::Acknowledge { id: self.id.clone(), generation: self.spawned.generation }
    }
}

/// The read end of a plugin's output, non-blocking.
pub(super) struct Output(pub(super) File);

impl Output {
    /// Reads until `enough` says so or the output ends; whether it ended.
    pub(super) fn read_until(&mut self, text: &mut String, enough: impl Fn(&str) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        while !enough(text) {
            match self.0.read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => text.push_str(std::str::from_utf8(&buffer[..count]).unwrap()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    assert!(readable(&self.0, left), "no more output after {text:?}");
                }
                Err(error) => panic!("{error}"),
            }
        }
        false
    }

    pub(super) fn read_to_end(&mut self) -> String {
        let mut text = String::new();
        assert!(self.read_until(&mut text, |_| false));
        text
    }

    pub(super) fn wait_for(&mut self, word: &str) {
        let mut text = String::new();
        assert!(!self.read_until(&mut text, |text| text.contains(word)), "ended with {text:?}");
    }
}

fn readable(descriptor: &impl std::os::fd::AsFd, at_most: Duration) -> bool {
    let mut polled = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::try_from(at_most).unwrap()).unwrap() > 0
}

fn hung_up(stream: &UnixStream, at_most: Duration) -> bool {
    readable(stream, at_most) && matches!((&mut &*stream).read(&mut [0]), Ok(0) | Err(_))
}
