//! The list of checks, and how it is shown.

use std::io;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, json};

use super::exercises::Exercise;
use crate::cli::Ended;
use crate::cli::problem::{Problem, printable};
use crate::cli::render::{Screen, Tone};
use crate::manifest::Manifest;

/// All of them, in order, but for the exercises of the manifest, which come before this one.
const AFTER_EXERCISES: &str = "unknown method";
/// One that was never come to is skipped.
const ALL: [&str; 14] = [
    "build",
    "cargo test",
    "package",
    "exposure",
    "review",
    "start",
    "handshake",
    "init",
    "health",
    AFTER_EXERCISES,
    "steady",
    "stop",
    "uninstall",
    "leftovers",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Failed,
    Skipped,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    name: String,
    outcome: Outcome,
    /// What was found, or why it failed.
    text: String,
    took_ms: u64,
}

pub(super) struct Checks {
    screen: Screen,
    plugin: Option<(String, String)>,
    /// The names of those of the manifest.
    exercises: Vec<String>,
    done: Vec<Check>,
    /// When the last one was over.
    since: Instant,
}

impl Checks {
    pub(super) fn new(screen: Screen) -> Self {
        Self {
            screen,
            plugin: None,
            exercises: Vec::new(),
            done: Vec::new(),
            since: Instant::now(),
        }
    }

    /// Which plugin is checked.
    pub(super) fn about(&mut self, manifest: &Manifest) {
        self.plugin = Some((manifest.id.to_string(), manifest.version.to_string()));
        self.exercises = Exercise::all(manifest).map(|exercise| exercise.to_string()).collect();
    }

    /// Makes a check; gives what came of it, and nothing where it failed.
    pub(super) async fn run<T>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<T, Problem>>,
        text: impl FnOnce(&T) -> String,
    ) -> io::Result<Option<T>> {
        let outcome = work.await;
        self.outcome(name, outcome, text)
    }

    /// As [`Checks::run`], for what is known already.
    pub(super) fn outcome<T>(
        &mut self,
        name: &str,
        outcome: Result<T, Problem>,
        text: impl FnOnce(&T) -> String,
    ) -> io::Result<Option<T>> {
        match outcome {
            Ok(found) => {
                let text = text(&found);
                self.add(name, Outcome::Ok, text)?;
                Ok(Some(found))
            }
            Err(problem) => {
                let text = format!("{}: {}", problem.code, problem.message);
                self.add(name, Outcome::Failed, text)?;
                Ok(None)
            }
        }
    }

    /// As [`Checks::outcome`], for a check that gives nothing but a text.
    pub(super) fn note(&mut self, name: &str, found: Result<String, Problem>) -> io::Result<bool> {
        Ok(self.outcome(name, found, Clone::clone)?.is_some())
    }

    pub(super) fn skip(&mut self, name: &str, why: &str) -> io::Result<()> {
        self.add(name, Outcome::Skipped, why.to_owned())
    }

    fn add(&mut self, name: &str, outcome: Outcome, text: String) -> io::Result<()> {
        let took_ms = self.since.elapsed().as_millis() as u64;
        self.since = Instant::now();
        if !self.screen.json() {
            let (tone, word) = match outcome {
                Outcome::Ok => (Tone::Good, "ok     "),
                Outcome::Failed => (Tone::Bad, "failed "),
                Outcome::Skipped => (Tone::Faint, "skipped"),
            };
            let word = self.screen.paint(tone, word);
            self.screen.line(&format!("{word}  {name:<34}  {}", printable(&text)))?;
            self.screen.flush()?;
        }
        self.done.push(Check { name: name.to_owned(), outcome, text, took_ms });
        Ok(())
    }

    /// Says what came of them all.
    pub(super) fn conclude(mut self) -> Result<(), Ended> {
        for name in self.all() {
            if !self.done.iter().any(|check| check.name == name) {
                self.skip(&name, "an earlier check failed")?;
            }
        }
        let failed = self.failed();
        let counted = self.done.iter().filter(|check| check.outcome != Outcome::Skipped).count();
        if self.screen.json() {
            let (id, version) = self.plugin.clone().unzip();
            let reply = json!({
                "id": id,
                "version": version,
                "passed": failed.is_empty(),
                "checks": self.done,
            });
            self.screen.document(&reply)?;
        } else if failed.is_empty() {
            let (id, version) = self.plugin.clone().unwrap_or_default();
            self.screen.line(&format!("{id} {version} passes all {counted} checks"))?;
        }
        self.screen.flush()?;
        if failed.is_empty() {
            return Ok(());
        }
        let message = format!("{} of {counted} checks failed: {}", failed.len(), failed.join(", "));
        let details = Map::from_iter([("failed".to_owned(), json!(failed))]);
        Err(Problem { code: "CHECKS_FAILED".to_owned(), message, details, exit_code: 1 }.into())
    }

    /// The names of all checks, in order.
    fn all(&self) -> Vec<String> {
        let before =
            |name: &str| if name == AFTER_EXERCISES { self.exercises.clone() } else { vec![] };
        ALL.iter().flat_map(|name| before(name).into_iter().chain([(*name).to_owned()])).collect()
    }

    fn failed(&self) -> Vec<String> {
        let failed = self.done.iter().filter(|check| check.outcome == Outcome::Failed);
        failed.map(|check| check.name.clone()).collect()
    }
}
