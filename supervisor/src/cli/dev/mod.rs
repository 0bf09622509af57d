//! `bulkhead dev`: a plugin in the foreground, built again and started again when its sources change.
//!
//! Theory of operation. Each build that is good and differs from the one before is run as `bulkhead
//! run` runs a directory, on a state that outlives it; while it runs, the sources are watched and built.
//! A build that fails is told and changes nothing: the one before runs on. The next good one ends the
//! run as Ctrl-C would, by the same sequence, and takes its place. A plugin that does not come up is
//! told, and waited for.

mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use serde_json::{Value, json};

use self::watch::Watch;
use super::args::{Dev, Global, ProjectFlags, Run};
use super::exec::say;
use super::problem::Problem;
use super::project::{Built, Project};
use super::render::Screen;
use super::run::{Interrupts, Scratch, session};
use super::{Ended, block_on, finish};

/// What is so after a fault.
const WAITING: &str = "nothing runs; waiting for the sources to change; stop with Ctrl-C";
const WATCHING: &str = "what was built before stays; waiting for the sources to change";

pub(super) fn dev(arguments: &Dev, global: &Global) -> ExitCode {
    finish(block_on(whole(arguments, global)), global.json)
}

async fn whole(arguments: &Dev, global: &Global) -> Result<(), Ended> {
    let mut interrupts = Interrupts::new()?;
    let flags = &arguments.project;
    let project = Project::find(flags)?;
    // Before the first build: what changes meanwhile is a change.
    let mut workshop =
        Workshop { sources: Watch::new(project.root())?, project, json: global.json };
    let (state, _kept) = state(arguments)?;
    let mut built = tokio::select! {
        built = workshop.first() => built?,
        () = interrupts.next() => return Ok(()),
    };
    loop {
        let run = run(flags, &built, &state);
        let next = workshop.next(&built);
        let outcome = match session(&run, global, &mut interrupts, next).await {
            Err(Ended::Problem(problem)) => {
                tell(global.json, "stopped", &problem, WAITING)?;
                tokio::select! {
                    next = workshop.next(&built) => Some(next),
                    () = interrupts.next() => None,
                }
            }
            outcome => outcome?,
        };
        match outcome {
            Some(next) => built = next?,
            None => return Ok(()),
        }
    }
}

/// Where the state is kept from one start to the next, and what of it is removed at the end.
fn state(arguments: &Dev) -> Result<(PathBuf, Option<Scratch>), Problem> {
    if let Some(state) = &arguments.state {
        return Ok((state.clone(), None));
    }
    let scratch = Scratch::new()?;
    let path = scratch.path();
    // Plugins have other uids and must get through to their storage, which is theirs alone.
    let opened = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, opened).map_err(|error| {
        let message = format!("cannot open {}: {error}", path.display());
        Problem::new(crate::failure::Code::StorageFailed, message)
    })?;
    Ok((path.join("state"), Some(scratch)))
}

fn run(flags: &ProjectFlags, built: &Built, state: &Path) -> Run {
    let mut paths = vec![built.directory.clone()];
    paths.extend(flags.with.iter().cloned());
    Run {
        paths,
        config: flags.config.clone(),
        state: Some(state.to_owned()),
        strictness: flags.strictness,
    }
}

/// The project, and what becomes of its sources.
struct Workshop {
    project: Project,
    sources: Watch,
    json: bool,
}

impl Workshop {
    /// The first build that is good.
    async fn first(&mut self) -> Result<Built, Ended> {
        match self.build(WAITING).await? {
            Some(built) => Ok(built),
            None => self.another(None).await,
        }
    }

    /// The next build that is good and runs from anything else than `present` does.
    async fn next(&mut self, present: &Built) -> Result<Built, Ended> {
        self.another(Some(present.fingerprint)).await
    }

    async fn another(&mut self, present: Option<[u8; 32]>) -> Result<Built, Ended> {
        loop {
            self.sources.changed().await?;
            let built = self.build(if present.is_some() { WATCHING } else { WAITING }).await?;
            self.sources.is_dealt_with();
            match built {
                Some(built) if Some(built.fingerprint) != present => return Ok(built),
                Some(_) if !self.json => say("it is what runs already"),
                _ => {}
            }
        }
    }

    /// None: it failed, which is said.
    async fn build(&self, meanwhile: &str) -> Result<Option<Built>, Ended> {
        let began = Instant::now();
        match self.project.build().await {
            Ok(built) => {
                let took = began.elapsed();
                let id = &built.manifest.id;
                if self.json {
                    line(
                        &json!({ "type": "built", "pluginId": id, "tookMs": took.as_millis() as u64 }),
                    )?;
                } else {
                    say(&format!("{id} is built, after {:.1} s", took.as_secs_f64()));
                }
                Ok(Some(built))
            }
            Err(problem) => {
                tell(self.json, "build-failed", &problem, meanwhile)?;
                Ok(None)
            }
        }
    }
}

/// What went wrong, and goes on all the same.
fn tell(json: bool, what: &str, problem: &Problem, meanwhile: &str) -> Result<(), Ended> {
    if json {
        return line(&json!({ "type": what, "error": problem }));
    }
    problem.report(false);
    say(meanwhile);
    Ok(())
}

fn line(value: &Value) -> Result<(), Ended> {
    let mut screen = Screen::stdout(true);
    screen.line(&value.to_string())?;
    Ok(screen.flush()?)
}
