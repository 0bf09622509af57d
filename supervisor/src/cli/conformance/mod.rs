//! `bulkhead test`: whether a plugin is one that a service can rely on.
//!
//! Theory of operation. The plugin goes through what it will go through on somebody else's machine: it
//! is built, packed, opened as a stranger's package is, looked at as an installation looks at it, and
//! then it lives once, in its compartment, under a service of this run's own: it is enabled, called,
//! disabled and uninstalled. Each of these is a check; what an earlier failure keeps from being tried
//! is skipped, and said to be. Nothing here knows a plugin's inside: it is asked over the admin API,
//! as anybody would ask.

mod checks;
mod exercises;
mod life;
mod stopping;

use std::process::ExitCode;

use self::checks::Checks;
pub(super) use self::exercises::{Exercise, Found};
pub(super) use self::life::Life;

pub(super) use self::stopping::stop;
use super::args::{Global, Run, Test};
use super::problem::Problem;
use super::project::{Built, Project};
use super::render::Screen;
use super::run::{self, Interrupts, Plan, Scratch, Service};
use super::{Ended, block_on, finish};
use crate::exposure::{Exposure, Score};
use crate::manifest::Manifest;
use crate::package;

pub(super) fn test(arguments: &Test, global: &Global) -> ExitCode {
    // A service that is named there is another one.
    let global = Global { socket: None, json: global.json };
    finish(block_on(whole(arguments, &global)), global.json)
}

async fn whole(arguments: &Test, global: &Global) -> Result<(), Ended> {
    let mut interrupts = Interrupts::new()?;
    let mut checks = Checks::new(Screen::stdout(global.json));
    let project = Project::find(&arguments.project)?;
    // Out here, so that it is ended however the checks end.
    let mut service = None;
    let told = tokio::select! {
        told = examine(arguments, global, &project, &mut checks, &mut service) => told,
        () = interrupts.next() => Err(interrupted().into()),
    };
    if let Some(service) = service {
        let ended = service.end(&mut interrupts).await;
        if told.is_ok() {
            let ended = ended.map(|()| "the service has ended, and nothing of it runs".to_owned());
            checks.note("leftovers", ended)?;
        }
    }
    told?;
    checks.conclude()
}

/// Every check up to the end of the service. A failure of a check is in `checks`.
async fn examine(
    asked: &Test,
    global: &Global,
    project: &Project,
    checks: &mut Checks,
    running: &mut Option<Service>,
) -> Result<(), Ended> {
    let flags = &asked.project;
    let built = checks.run("build", project.build(), |built| build_text(project, built)).await?;
    let Some(built) = built else { return Ok(()) };
    checks.about(&built.manifest);
    if let Some(cargo) = project.cargo() {
        checks.run("cargo test", cargo.test(), |()| "they pass".to_owned()).await?;
    } else {
        checks.skip("cargo test", "there is no Cargo.toml")?;
    }
    let scratch = Scratch::new()?;
    let tree = match package::pack(&built.directory, Some(scratch.path())) {
        Ok(packed) => run::unpacked(&packed.package, &scratch).map(|tree| (packed, tree)),
        Err(failure) => Err(failure.into()),
    };
    let tree = checks.outcome("package", tree, |(packed, _)| {
        format!("{} files in {} bytes, opened again in a compartment", packed.files, packed.bytes)
    })?;
    let Some((_, tree)) = tree else { return Ok(()) };
    checks.note("exposure", exposure(&built.manifest, asked.max_exposure))?;
    // From here on it is the package that is looked at, not the project.
    let others = run::open(&flags.with)?;
    let mut directories = vec![tree.clone()];
    directories.extend(others.directories.iter().cloned());
    let plan = Plan::of(&directories, &flags.config)?;
    let arguments =
        Run { paths: directories, config: Vec::new(), state: None, strictness: flags.strictness };
    let service = running.insert(Service::prepare(&arguments, global, &plan)?);
    service.start()?;
    service.ready().await?;
    let life =
        Life { client: &service.client, manifest: &built.manifest, plan: &plan, tree: &tree };
    life.check(checks).await
}

/// What it asks for: whatever this machine lacks is not the author's to mend.
fn exposure(manifest: &Manifest, maximum: Option<Score>) -> Result<String, Problem> {
    let exposure = Exposure::expected(manifest, None);
    if let Some(maximum) = maximum {
        exposure.check(&manifest.id, maximum)?;
    }
    Ok(format!("{} of 10 by what it asks for", exposure.score))
}

fn build_text(project: &Project, built: &Built) -> String {
    let Built { manifest, .. } = built;
    let by = if project.cargo().is_some() { "built with cargo" } else { "as it is" };
    format!("{} {}, {by}", manifest.id, manifest.version)
}

fn interrupted() -> Problem {
    Problem {
        code: "INTERRUPTED".to_owned(),
        message: "interrupted before all checks were made".to_owned(),
        details: serde_json::Map::new(),
        exit_code: 1,
    }
}
