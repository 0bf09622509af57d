//! What a run consists of: the life that `bulkhead test` gives a plugin, and the author's own command.

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::cli::client::Client;
use crate::cli::conformance::{self, Exercise, Found, Life};
use crate::cli::problem::Problem;
use crate::failure::Code;

/// One step, and how it ended: what it gave, or why it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) outcome: Result<String, String>,
}

/// A life, as far as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lived {
    pub(super) steps: Vec<Step>,
    /// Of what it declares, that which was refused, or not tried at all.
    pub(super) hardly: Vec<String>,
}

impl Lived {
    fn add(&mut self, name: impl Into<String>, outcome: Result<String, String>) {
        self.steps.push(Step { name: name.into(), outcome });
    }

    /// Why it did not start, if it did not.
    pub(super) fn failed_start(&self) -> Option<&str> {
        self.steps.first()?.outcome.as_ref().err().map(String::as_str)
    }

    /// What failed, or went otherwise than in `other`: each a sentence.
    pub(super) fn against(&self, other: &Self) -> Vec<String> {
        let mut faults = Vec::new();
        for step in &self.steps {
            let before = other.steps.iter().find(|one| one.name == step.name);
            match (&step.outcome, before.map(|before| &before.outcome)) {
                (Err(why), Some(Err(_))) => {
                    faults.push(format!("{}: {why}; so it did while it was learned", step.name));
                }
                (Err(why), _) => faults.push(format!("{}: {why}", step.name)),
                (Ok(now), Some(Ok(then))) if now != then => {
                    faults.push(format!("{}: {now}, and {then} while it was learned", step.name));
                }
                _ => {}
            }
        }
        faults
    }

    pub(super) fn json(&self) -> Value {
        let step = |step: &Step| {
            let (passed, text) = match &step.outcome {
                Ok(text) => (true, text),
                Err(text) => (false, text),
            };
            json!({ "name": step.name, "passed": passed, "text": text })
        };
        self.steps.iter().map(step).collect()
    }
}

/// Lives it. A step that fails is told in it, and what cannot go on after it is left out.
pub(super) async fn live(life: &Life<'_>, command: &[OsString]) -> Result<Lived, Problem> {
    life.dependencies().await?;
    let mut lived = Lived::default();
    match life.start().await {
        Ok(_) => lived.add("start", Ok("it starts".to_owned())),
        Err(problem) => {
            lived.add("start", Err(text(&problem)));
            return Ok(lived);
        }
    }
    let Life { client, manifest, .. } = life;
    for exercise in Exercise::all(manifest) {
        let outcome = match exercise.of(client, &manifest.id).await {
            Found::Answered => Ok(exercise.answered()),
            Found::Refused(code, problem) if code == "PANIC" => Err(text(&problem)),
            Found::Refused(code, _) => {
                lived.hardly.push(exercise.to_string());
                Ok(exercise.refused(&code))
            }
            Found::Lost(problem) => Err(text(&problem)),
        };
        lived.add(exercise.to_string(), outcome);
    }
    // What is in them only the author knows.
    let topics = manifest.events.subscribes.iter();
    lived.hardly.extend(topics.map(|topic| format!("events {topic}")));
    if !command.is_empty() {
        lived.add("command", run(client, command).await?);
    }
    let stopped = conformance::stop(client, &manifest.id).await;
    lived.add("stop", stopped.map(|_| "it stops".to_owned()).map_err(|problem| text(&problem)));
    Ok(lived)
}

/// What it prints goes to standard error, as standard output is this program's own.
async fn run(client: &Client, command: &[OsString]) -> Result<Result<String, String>, Problem> {
    let [program, arguments @ ..] = command else { return Ok(Ok(String::new())) };
    let shown = program.to_string_lossy();
    let cannot = |error: std::io::Error| {
        Problem::new(Code::NotFound, format!("cannot run {shown}: {error}"))
    };
    let output = std::io::stderr().as_fd().try_clone_to_owned().map_err(cannot)?;
    let mut child = Command::new(program)
        .args(arguments)
        .env("BULKHEAD_SOCKET", client.socket())
        .stdin(Stdio::null())
        .stdout(output)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot)?;
    let mut group = Group(child.id());
    let status = child.wait().await.map_err(cannot)?;
    // Its number may be another's from now on.
    group.0 = None;
    Ok(if status.success() {
        Ok("it succeeds".to_owned())
    } else {
        Err(format!("{shown} ended with {status}"))
    })
}

/// A process group that has its first process yet. Dropped, all of it is killed.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It has ended by itself just now.
            let _ = killpg(Pid::from_raw(leader as i32), Signal::SIGKILL);
        }
    }
}

fn text(problem: &Problem) -> String {
    format!("{}: {}", problem.code, problem.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lived(steps: &[(&str, Result<&str, &str>)]) -> Lived {
        let mut lived = Lived::default();
        for (name, outcome) in steps {
            lived.add(*name, outcome.map(str::to_owned).map_err(str::to_owned));
        }
        lived
    }

    #[test]
    fn a_failure_counts_and_so_does_another_answer_than_before() {
        let before = lived(&[("start", Ok("it starts")), ("method a", Ok("it answers"))]);
        assert_eq!(before.against(&before), [""; 0]);
        let other = lived(&[("start", Ok("it starts")), ("method a", Ok("it refuses"))]);
        assert_eq!(other.against(&before).len(), 1);
        let failed = lived(&[("start", Err("no"))]);
        assert_eq!(failed.against(&before), ["start: no"]);
        assert_eq!(failed.against(&failed), ["start: no; so it did while it was learned"]);
        // What failed before and passes now is no fault; of one that did not start nothing is learned at all.
        assert_eq!(before.against(&failed), [""; 0]);
    }
}
