//! The plugin's life, from the review to the uninstallation.

use std::path::Path;

use hyper::Method;
use serde_json::{Value, json};

use super::checks::Checks;
use super::exercises::{self, Process};
use super::stopping;
use crate::cli::Ended;
use crate::cli::client::{Ask, Client};
use crate::cli::install::{self, own_word};
use crate::cli::problem::Problem;
use crate::cli::run::{self, Plan};
use crate::cli::verbs::enable_with;
use crate::failure::{Code, Failure};
use crate::manifest::Manifest;

/// The stages of a start, in order, as a failure names them.
const STAGES: [(&str, &str); 3] = [
    ("handshake", "it says hello, in a protocol that is spoken here"),
    ("init", "it takes its configuration"),
    ("health", "it says that it is well"),
];

pub(in crate::cli) struct Life<'a> {
    pub(in crate::cli) client: &'a Client,
    pub(in crate::cli) manifest: &'a Manifest,
    pub(in crate::cli) plan: &'a Plan,
    /// Its package, opened.
    pub(in crate::cli) tree: &'a Path,
}

impl Life<'_> {
    /// The checks of its life. What cannot go on after a failure ends here.
    pub(super) async fn check(&self, checks: &mut Checks) -> Result<(), Ended> {
        let Self { client, manifest, .. } = self;
        self.dependencies().await?;
        let reviewed = checks.run("review", self.review(), reviewed).await?;
        if reviewed.is_none() {
            return Ok(());
        }
        let enabled = self.start().await;
        let Some(process) = stages(checks, enabled)? else { return Ok(()) };
        exercises::check(client, manifest, &process, checks).await?;
        let stopped = stopping::stop(client, &manifest.id).await;
        checks.note("stop", stopped)?;
        checks.note("uninstall", self.uninstall().await)?;
        Ok(())
    }

    /// What it depends on is there before it, as it would be on a machine that has it.
    pub(in crate::cli) async fn dependencies(&self) -> Result<(), Problem> {
        for step in self.plan.steps.iter().filter(|step| step.manifest.id != self.manifest.id) {
            run::bring(self.client, &step.manifest.id, &step.directory).await?;
            enable_with(self.client, &step.manifest.id, step.config.clone()).await?;
        }
        Ok(())
    }

    /// What an installation looks at.
    async fn review(&self) -> Result<Value, Problem> {
        let mut options = own_word();
        options.insert("dryRun".to_owned(), json!(true));
        install::directory(self.client, install::PLUGINS, self.tree, options).await
    }

    pub(in crate::cli) async fn start(&self) -> Result<Value, Problem> {
        let id = &self.manifest.id;
        run::bring(self.client, id, self.tree).await?;
        let mut steps = self.plan.steps.iter().filter(|step| step.manifest.id == *id);
        let config = steps.next().and_then(|step| step.config.clone());
        enable_with(self.client, id, config).await.map_err(|mut problem| {
            if problem.code == Code::DependencyMissing.to_string() {
                problem.message += " (for this test: `--with FILE|DIR`)";
            }
            problem
        })
    }

    async fn uninstall(&self) -> Result<String, Problem> {
        let id = &self.manifest.id;
        let path = format!("/v1/plugins/{id}");
        self.client.json(Ask::new(Method::DELETE, &path)).await?;
        match self.client.json(Ask::get(&path)).await {
            Err(problem) if problem.code == Code::NotFound.to_string() => {
                Ok("nothing of it is left".to_owned())
            }
            Err(problem) => Err(problem),
            Ok(_) => Err(Failure::new(Code::Internal, format!("{id} is still there")).into()),
        }
    }
}

/// The stages of its start up to the one that failed. Its process, if none did.
fn stages(checks: &mut Checks, enabled: Result<Value, Problem>) -> Result<Option<Process>, Ended> {
    let failed = match &enabled {
        Ok(_) => None,
        // The one fault of a stage that names what is incompatible instead.
        Err(problem) if problem.details.get("what") == Some(&json!("protocol")) => {
            Some(Some("handshake"))
        }
        Err(problem) => Some(problem.details.get("stage").and_then(Value::as_str)),
    };
    let at = failed.map(|stage| STAGES.iter().position(|(name, _)| Some(*name) == stage));
    if at == Some(None) {
        // It has not come so far that there is a stage.
        checks.outcome("start", enabled, |_| String::new())?;
        return Ok(None);
    }
    checks.note("start", Ok("it runs in its compartment".to_owned()))?;
    for (index, (name, text)) in STAGES.iter().enumerate() {
        match (&enabled, at) {
            (Err(problem), Some(Some(failed))) if failed == index => {
                checks.note(name, Err(problem.clone()))?;
                return Ok(None);
            }
            _ => checks.note(name, Ok((*text).to_owned()))?,
        };
    }
    Ok(enabled.ok().map(|reply| Process::of(&reply["plugin"])))
}

/// What is good to know of a review.
fn reviewed(review: &Value) -> String {
    let texts = |key: &str| -> Vec<&str> {
        review[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let (asks, warnings) = (texts("added"), texts("warnings"));
    let mut text = match asks.len() {
        0 => "it asks for nothing that takes a consent".to_owned(),
        _ => format!("it asks for {}", asks.join(", ")),
    };
    for warning in warnings {
        text = format!("{text}; warning: {warning}");
    }
    text
}
