//! Cargo, as a process group of its own: an interrupt is ours to answer, and what it started ends
//! with it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use crate::cli::problem::Problem;
use crate::failure::{Code, Failure};
use crate::manifest::Manifest;

/// The project's cargo: `CARGO`, as cargo itself hands it on, or the one on the path.
pub(in crate::cli) struct Cargo {
    program: OsString,
    root: PathBuf,
    release: bool,
}

/// A line of `--message-format=json`, as far as it matters.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Cargo {
    pub(super) fn new(root: &Path, release: bool) -> Self {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Self { program, root: root.to_owned(), release }
    }

    /// Builds the project; gives the program that is the manifest's entry.
    pub(super) async fn build(&self, manifest: &Manifest) -> Result<PathBuf, Problem> {
        let mut command = self.command("build");
        command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
        let (status, output) = self.run(command).await?;
        if !status.success() {
            return Err(failed("build", status));
        }
        entry(manifest, programs(&output))
    }

    /// Runs the project's own tests; what they say goes to standard error.
    pub(in crate::cli) async fn test(&self) -> Result<(), Problem> {
        let mut command = self.command("test");
        // Standard output is for what we say.
        command.stdout(std::io::stderr());
        match self.run(command).await? {
            (status, _) if status.success() => Ok(()),
            (status, _) => Err(failed("test", status)),
        }
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).current_dir(&self.root).stdin(Stdio::null()).process_group(0);
        if self.release {
            command.arg("--release");
        }
        command
    }

    async fn run(&self, mut command: Command) -> Result<(ExitStatus, String), Problem> {
        let cannot = |error: std::io::Error| {
            let program = self.program.display();
            let message = format!(
                "{program} cannot be run: {error}; install Rust (https://rustup.rs), or name cargo in the variable CARGO"
            );
            Failure::new(Code::NotFound, message).with("what", "program").with("name", "cargo")
        };
        let mut running = Running(command.spawn().map_err(cannot)?);
        let mut output = Vec::new();
        if let Some(stdout) = &mut running.0.stdout {
            stdout.read_to_end(&mut output).await.map_err(cannot)?;
        }
        let status = running.0.wait().await.map_err(cannot)?;
        Ok((status, String::from_utf8_lossy(&output).into_owned()))
    }
}

/// Dropped before its end, it and what it started are ended.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = self.0.id() {
            // It is not reaped yet, so the group is its own.
            let _ = killpg(Pid::from_raw(pid as i32), Signal::SIGTERM);
        }
    }
}

fn failed(verb: &str, status: ExitStatus) -> Problem {
    Problem {
        code: "BUILD_FAILED".to_owned(),
        message: format!("cargo {verb} failed ({status}); what it said is above"),
        details: serde_json::Map::new(),
        exit_code: 1,
    }
}

/// The programs that a build has made, by name.
fn programs(output: &str) -> Vec<(String, PathBuf)> {
    let messages = output.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    messages
        .filter(|message| message.target.kind.iter().any(|kind| kind == "bin"))
        .filter_map(|message| Some((message.target.name, message.executable?)))
        .collect()
}

/// The one that is called as the entry, or as the plugin; or the only one.
fn entry(manifest: &Manifest, programs: Vec<(String, PathBuf)>) -> Result<PathBuf, Problem> {
    let entry = manifest.entry();
    let called = Path::new(&entry).file_name().unwrap_or_default();
    let wanted = [called, manifest.id.as_str().as_ref()];
    let named = |wanted: &std::ffi::OsStr| {
        programs.iter().find(|(name, _)| wanted == name.as_str()).map(|(_, path)| path.clone())
    };
    if let Some(path) = wanted.into_iter().find_map(named) {
        return Ok(path);
    }
    if let [(_, only)] = &programs[..] {
        return Ok(only.clone());
    }
    let names: Vec<&str> = programs.iter().map(|(name, _)| name.as_str()).collect();
    let made = if names.is_empty() { "no program".to_owned() } else { names.join(", ") };
    let message = format!(
        "plugin.toml has the entry {entry}, and cargo builds {made}; call one {}, or set `entry`",
        called.display()
    );
    Err(Failure::new(Code::EntryInvalid, message).with("path", entry).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> Manifest {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("plugin.toml"), text).unwrap();
        Manifest::load(directory.path()).unwrap()
    }

    fn named(names: &[&str]) -> Vec<(String, PathBuf)> {
        names.iter().map(|name| ((*name).to_owned(), Path::new("/t").join(name))).collect()
    }

    #[test]
    fn the_programs_are_read_from_what_cargo_says() {
        let output = r#"
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"a"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"a"},"executable":"/t/a"}
{"reason":"compiler-artifact","target":{"kind":["custom-build"],"name":"b"},"executable":"/t/b"}
not JSON
{"reason":"build-finished","success":true}
"#;
        assert_eq!(programs(output), named(&["a"]));
    }

    #[test]
    fn the_entry_is_the_program_of_that_name_or_the_only_one() {
        let plain = manifest("id = 'a'\nversion = '1.0.0'");
        let other = manifest("id = 'a'\nversion = '1.0.0'\nentry = 'bin/b'");
        let found = |manifest, names: &[&str]| entry(manifest, named(names)).unwrap();
        assert_eq!(found(&plain, &["b", "a"]), Path::new("/t/a"));
        assert_eq!(found(&other, &["a", "b"]), Path::new("/t/b"));
        assert_eq!(found(&other, &["c", "a"]), Path::new("/t/a"));
        assert_eq!(found(&plain, &["z"]), Path::new("/t/z"));
        for names in [&[][..], &["x", "y"]] {
            let problem = entry(&plain, named(names)).unwrap_err();
            assert_eq!(problem.code, "ENTRY_INVALID");
            assert!(problem.message.contains("bin/a"), "{problem:?}");
        }
    }
}
