//! The service of a run: its directory, its configuration, its process.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};

use super::Interrupts;
use super::plan::Plan;
use crate::cli::args::{Global, Run};
use crate::cli::client::Client;
use crate::cli::exec::delegation;
use crate::cli::problem::Problem;
use crate::failure::Code;
use crate::id::PluginId;
use crate::launcher::removal::remove_at_once;
use crate::manifest::HostPath;

/// From the start to the first answer.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// From SIGTERM to SIGKILL: longer than the service's own budget.
const END_WITHIN: Duration = Duration::from_secs(20);

pub(in crate::cli) struct Service {
    pub(in crate::cli) client: Client,
    config: PathBuf,
    notify: UnixDatagram,
    notify_path: PathBuf,
    /// `ID=SOCKET` of the plugin whose calls are watched.
    learning: Option<OsString>,
    child: Option<Child>,
    // Last, so that nothing in it is in use when it is removed.
    _directory: Scratch,
}

/// A temporary directory. What plugins left in it may need more than `remove_dir_all`.
pub(in crate::cli) struct Scratch(Option<TempDir>);

impl Scratch {
    pub(in crate::cli) fn new() -> Result<Self, Problem> {
        let directory = tempfile::Builder::new()
            .prefix("bulkhead-run-")
            .tempdir()
            .map_err(|error| cannot("make a temporary directory", &error))?;
        Ok(Self(Some(directory)))
    }

    pub(in crate::cli) fn path(&self) -> &Path {
        self.0.as_ref().expect("it is there until it is dropped").path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(directory) = self.0.take() else { return };
        let path = directory.keep();
        if let Err(error) = remove_at_once(&path) {
            super::super::exec::say(&format!("warning: cannot remove {}: {error}", path.display()));
        }
    }
}

impl Service {
    /// Writes what it needs; starts nothing yet.
    pub(in crate::cli) fn prepare(
        arguments: &Run,
        global: &Global,
        plan: &Plan,
    ) -> Result<Self, Problem> {
        let directory = Scratch::new()?;
        let path = directory.path();
        // The supervisor and the plugins have other uids and must get through to what is theirs.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
            .map_err(|error| cannot("open the temporary directory", &error))?;
        let state = match &arguments.state {
            Some(state) => std::path::absolute(state)
                .map_err(|error| cannot("find the working directory", &error))?,
            None => path.join("state"),
        };
        let socket = match &global.socket {
            Some(socket) => std::path::absolute(socket)
                .map_err(|error| cannot("find the working directory", &error))?,
            None => path.join("run/admin.sock"),
        };
        let config = path.join("bulkhead.toml");
        let text = configuration(&Configured {
            state: &state,
            runtime: &path.join("run"),
            socket: &socket,
            strict: arguments.strictness.strict,
            kept: arguments.state.is_some(),
            plan,
        });
        std::fs::write(&config, text).map_err(|error| cannot("write a configuration", &error))?;
        let notify_path = path.join("notify");
        let notify = UnixDatagram::bind(&notify_path)
            .map_err(|error| cannot("make a socket in the temporary directory", &error))?;
        let client = Client::new(socket);
        Ok(Self {
            client,
            config,
            notify,
            notify_path,
            learning: None,
            child: None,
            _directory: directory,
        })
    }

    /// Has it put that plugin's calls to whoever listens at `socket`, from the next start on.
    pub(in crate::cli) fn learn_from(&mut self, id: &PluginId, socket: &Path) {
        let mut learning = OsString::from(format!("{id}="));
        learning.push(socket);
        self.learning = Some(learning);
    }

    pub(in crate::cli) fn start(&mut self) -> Result<(), Problem> {
        let program = std::env::current_exe()
            .map_err(|error| cannot("find this program to start it again", &error))?;
        let mut command = match delegation::in_a_scope(&program) {
            Some(scoped) => Command::from(scoped),
            None => Command::new(program),
        };
        command
            .arg("serve")
            .arg("--config")
            .arg(&self.config)
            .arg(format!("--parent={}", std::process::id()))
            .args(self.learning.iter().flat_map(|learning| [OsStr::new("--learn"), learning]))
            .env("NOTIFY_SOCKET", &self.notify_path)
            .env_remove("BULKHEAD_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        if std::env::var_os(crate::logging::FILTER_VARIABLE).is_none() {
            // A person who runs plugins wants to read them, not the service.
            command.env(crate::logging::FILTER_VARIABLE, "error");
        }
        let child = command.spawn().map_err(|error| cannot("start the service", &error))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it answers (`READY=1`, sd_notify(3)).
    pub(in crate::cli) async fn ready(&mut self) -> Result<(), Problem> {
        let deadline = tokio::time::Instant::now() + READY_WITHIN;
        loop {
            let mut message = [0; 4096];
            tokio::select! {
                received = self.notify.recv(&mut message) => {
                    let length = received.map_err(|error| cannot("hear of the service", &error))?;
                    if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                        return Ok(());
                    }
                }
                status = wait(&mut self.child) => return Err(super::died(&status)),
                () = tokio::time::sleep_until(deadline) => {
                    let message = format!("the service was not ready after {READY_WITHIN:?}");
                    return Err(Problem::new(Code::Timeout, message));
                }
            }
        }
    }

    pub(in crate::cli) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// When it has ended: how.
    pub(in crate::cli) async fn ended(&mut self) -> String {
        wait(&mut self.child).await
    }

    /// Asks it to end, which stops every plugin that still runs. It is killed if it does not, or if
    /// somebody is in a hurry; then nothing of it is left either.
    pub(in crate::cli) async fn end(mut self, interrupts: &mut Interrupts) -> Result<(), Problem> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let Some(pid) = child.id() else { return Ok(()) };
        // It is not reaped yet, so the number is its own.
        let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
        let status = tokio::select! {
            status = child.wait() => status,
            () = tokio::time::sleep(END_WITHIN) => killed(&mut child).await,
            () = interrupts.next() => killed(&mut child).await,
        };
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Problem::new(
                Code::Internal,
                format!("the service did not end well ({status}); what it said is above"),
            )),
            Err(error) => Err(cannot("wait for the service", &error)),
        }
    }
}

async fn wait(child: &mut Option<Child>) -> String {
    match child {
        Some(child) => match child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        },
        None => "it was never started".to_owned(),
    }
}

async fn killed(child: &mut Child) -> std::io::Result<ExitStatus> {
    child.start_kill()?;
    child.wait().await
}

fn cannot(what: &str, error: &std::io::Error) -> Problem {
    Problem::new(Code::StorageFailed, format!("cannot {what}: {error}"))
}

/// The first uid of those that belong to this run, and how many there are: others than those of a
/// service that runs here.
pub(super) fn own_uids() -> (u32, u32) {
    (1_900_010_000 + std::process::id() % 800 * 100, 100)
}

struct Configured<'a> {
    state: &'a Path,
    runtime: &'a Path,
    socket: &'a Path,
    strict: bool,
    kept: bool,
    plan: &'a Plan,
}

/// `bulkhead.toml`. Whoever runs a directory grants what its manifest asks for.
fn configuration(of: &Configured<'_>) -> String {
    let quoted = |path: &Path| toml::Value::String(path.to_string_lossy().into_owned()).to_string();
    let list = |paths: &mut dyn Iterator<Item = &HostPath>| {
        paths.map(|path| quoted(path.as_path())).collect::<Vec<_>>().join(", ")
    };
    let mode = if of.strict { "strict" } else { "best-effort" };
    let mut text = format!(
        "state = {}\nruntime = {}\nsocket = {}\nmode = \"{mode}\"\nallow_directories = true\n",
        quoted(of.state),
        quoted(of.runtime),
        quoted(of.socket)
    );
    if geteuid().is_root() {
        // Other uids than those of a service that runs here. A state that is kept has its own, as
        // its files do; without one, runs at the same time keep apart by their process id.
        let (first, count) = if of.kept { (1_900_090_000, 10_000) } else { own_uids() };
        writeln!(text, "uids = {{ first = {first}, count = {count} }}")
            .expect("a String takes all");
    }
    let asked = || of.plan.steps.iter().map(|step| &step.manifest.sandbox);
    let read = list(&mut asked().flat_map(|sandbox| &sandbox.read));
    let write = list(&mut asked().flat_map(|sandbox| &sandbox.write));
    text + &format!("[mounts]\nread_only = [{read}]\nread_write = [{write}]\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Mode};

    #[test]
    fn the_configuration_is_one() {
        let root = tempfile::tempdir().unwrap();
        let manifest =
            "id = 'a'\nversion = '1.0.0'\n[sandbox]\nread = ['/srv/x y\"z']\nwrite = ['/srv/w']\n";
        std::fs::write(root.path().join("plugin.toml"), manifest).unwrap();
        let plan = Plan::of(&[root.path().to_owned()], &[]).unwrap();
        let text = configuration(&Configured {
            state: Path::new("/tmp/a \"b\"/state"),
            runtime: Path::new("/tmp/run"),
            socket: Path::new("/tmp/s.sock"),
            strict: true,
            kept: false,
            plan: &plan,
        });
        let config = Config::parse(&text, Path::new("generated")).unwrap();
        assert_eq!(config.state, Path::new("/tmp/a \"b\"/state"));
        assert_eq!(config.socket(), Path::new("/tmp/s.sock"));
        assert_eq!(config.mode, Mode::Strict);
        assert!(config.allow_directories);
        assert_eq!(config.mounts.read_only, [Path::new("/srv/x y\"z")]);
        assert_eq!(config.mounts.read_write, [Path::new("/srv/w")]);
    }
}
