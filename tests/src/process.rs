//! Running programs, each with a deadline.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::program;

/// Long enough for a machine that emulates its processor.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What the end of a killed program's output is waited for: a process that it left may hold it open.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A program that is to be run.
pub struct Program {
    pub(crate) command: Command,
    input: Option<Vec<u8>>,
}

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

/// `bulkhead` with these arguments, unaffected by the settings of whoever runs the tests.
pub fn bulkhead<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Program {
    let mut words = apart();
    words.push(program::bulkhead().into());
    let mut program = Program::new(&words[0]).args(&words[1..]);
    program.command.args(arguments).env_remove("BULKHEAD_SOCKET").env_remove("BULKHEAD_IN_SCOPE");
    program
}

/// The words before a command that has it run in a cgroup beneath that of `BULKHEAD_TEST_APART`: where there is
/// no systemd to give `bulkhead` one beside the test's. None elsewhere.
pub fn apart() -> Vec<OsString> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let Some(parent) = std::env::var_os("BULKHEAD_TEST_APART") else { return Vec::new() };
    let name = format!("bulkhead-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let enter = "mkdir \"$0\" && echo $$ >\"$0/cgroup.procs\" && exec \"$@\"";
    let cgroup = Path::new(&parent).join(name).into_os_string();
    vec!["sh".into(), "-c".into(), enter.into(), cgroup]
}

/// A verb of an author's on a project or a plugin's directory, with nothing else in its temporary directory,
/// which must be empty afterwards.
pub fn authoring(verb: &str, directory: &Path, words: &[&str]) -> Outcome {
    let scratch = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(scratch.path(), open).unwrap();
    let outcome = bulkhead([verb])
        .arg(directory)
        .args(words)
        .env("TMPDIR", scratch.path())
        .env_remove("BULKHEAD_LOG")
        .run();
    let left: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    outcome
}

impl Program {
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { command: Command::new(program), input: None }
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    pub fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn directory(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// What it reads from standard input; else nothing.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// Where it cannot be started, or has not ended at the [`DEADLINE`], at which it is killed.
    pub fn run(self) -> Outcome {
        self.start().wait()
    }

    /// Starts it; its output can be awaited line by line.
    pub fn start(mut self) -> Running {
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        let shown = format!("{:?}", self.command);
        let mut child = self
            .command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{shown} cannot be started: {error}"));
        if let Some(input) = self.input {
            let mut stdin = child.stdin.take().unwrap();
            // A program that does not read its input is no failure of the test.
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
        let stdout = Output::of(child.stdout.take().unwrap());
        let stderr = Output::of(child.stderr.take().unwrap());
        Running { shown, started: Instant::now(), child, stdout, stderr }
    }
}

/// A program that runs. Dropped, it is killed.
pub struct Running {
    shown: String,
    started: Instant,
    child: Child,
    pub stdout: Output,
    pub stderr: Output,
}

impl Running {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// Where it has not at the [`DEADLINE`].
    pub fn wait(mut self) -> Outcome {
        let deadline = Instant::now() + DEADLINE;
        // Both ends of its output first: it cannot end while it waits for a reader.
        let stdout = self.stdout.rest(deadline);
        let stderr = self.stderr.rest(deadline);
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            panic!(
                "{} has not ended after {DEADLINE:?}; so far it wrote\n{}\n{}",
                self.shown, self.stdout.seen, self.stderr.seen
            );
        };
        let status = self.child.wait().unwrap();
        Outcome { status, stdout, stderr, took: self.started.elapsed() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `wait` it is gone, and this an error that says so.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // A test has failed: what it had started may say why.
            let _ = self.stderr.rest(Instant::now() + LAST_WORDS);
            eprintln!("{} wrote\n{}", self.shown, self.stderr.seen);
        }
    }
}

impl Outcome {
    /// The exit code; 128 and the signal where one ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap())
    }

    /// # Panics
    /// Where the code is another.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// One stream of a program, read by a thread of its own so that it never blocks.
pub struct Output {
    lines: Receiver<String>,
    /// All that was taken so far.
    seen: String,
}

impl Output {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(stream.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).into_owned();
                if sender.send(text).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Self { lines, seen: String::new() }
    }

    /// The next line that `wanted` holds for, without its end. Those before it are passed over.
    ///
    /// # Panics
    /// Where none comes before the [`DEADLINE`] or the end of the stream.
    pub fn line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    let line = line.trim_end_matches('\n');
                    if wanted(line) {
                        return line.to_owned();
                    }
                }
                Err(error) => panic!("the line did not come ({error}); it wrote\n{}", self.seen),
            }
        }
    }

    /// All that it wrote, to the end; `None` if that does not come before the deadline.
    fn rest(&mut self, deadline: Instant) -> Option<String> {
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push_str(&line),
                Err(RecvTimeoutError::Disconnected) => return Some(self.seen.clone()),
                Err(RecvTimeoutError::Timeout) => return None,
            }
        }
    }
}
