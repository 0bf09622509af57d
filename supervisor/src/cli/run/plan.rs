//! What is to be run, in which order, with which configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::problem::Problem;
use crate::cli::verbs::read_config;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::manifest::Manifest;

#[derive(Debug)]
pub(in crate::cli) struct Plan {
    /// A plugin comes after those that it depends on.
    pub(in crate::cli) steps: Vec<Step>,
}

#[derive(Debug)]
pub(in crate::cli) struct Step {
    pub(in crate::cli) directory: PathBuf,
    pub(in crate::cli) manifest: Manifest,
    pub(in crate::cli) config: Option<Value>,
}

impl Plan {
    /// Reads the manifests, so that their faults are told before anything is started. A dependency
    /// that is not among the directories is left for the service to judge.
    pub(in crate::cli) fn of(directories: &[PathBuf], configs: &[String]) -> Result<Self, Problem> {
        let mut waiting = Vec::new();
        for directory in directories {
            let manifest = Manifest::load(directory)?;
            waiting.push(Step { directory: directory.clone(), manifest, config: None });
        }
        for (index, step) in waiting.iter().enumerate() {
            let id = &step.manifest.id;
            if let Some(other) = waiting[..index].iter().find(|other| other.manifest.id == *id) {
                let (one, two) = (other.directory.display(), step.directory.display());
                return Err(Problem::usage(format!("{one} and {two} are both the plugin {id}")));
            }
        }
        for (id, path) in assign(configs, &waiting)? {
            let config = read_config(&path)?;
            if let Some(step) = waiting.iter_mut().find(|step| step.manifest.id == id) {
                step.config = Some(config);
            }
        }
        Ok(Self { steps: ordered(waiting)? })
    }
}

/// `ID=FILE`, or `FILE` where there is one plugin.
fn assign(configs: &[String], steps: &[Step]) -> Result<BTreeMap<PluginId, PathBuf>, Problem> {
    let mut assigned = BTreeMap::new();
    for text in configs {
        let named = text.split_once('=').and_then(|(id, path)| Some((id.parse().ok()?, path)));
        let (id, path): (PluginId, &str) = match (named, steps) {
            (Some(named), _) => named,
            (None, [only]) => (only.manifest.id.clone(), text),
            (None, _) => {
                return Err(Problem::usage(format!(
                    "--config {text}: there are several plugins; say for which, as ID={text}"
                )));
            }
        };
        if !steps.iter().any(|step| step.manifest.id == id) {
            let ids: Vec<&str> = steps.iter().map(|step| step.manifest.id.as_str()).collect();
            return Err(Problem::usage(format!(
                "--config {text}: no plugin {id} is run; there are {}",
                ids.join(", ")
            )));
        }
        if assigned.insert(id.clone(), Path::new(path).to_owned()).is_some() {
            return Err(Problem::usage(format!(
                "--config {text}: {id} has a configuration already"
            )));
        }
    }
    Ok(assigned)
}

fn ordered(mut waiting: Vec<Step>) -> Result<Vec<Step>, Problem> {
    let mut steps: Vec<Step> = Vec::new();
    while !waiting.is_empty() {
        let is_free = |step: &Step| {
            let mut needs = step.manifest.dependencies.keys();
            needs.all(|need| waiting.iter().all(|other| other.manifest.id != *need))
        };
        let Some(at) = waiting.iter().position(is_free) else {
            let ids: Vec<&str> = waiting.iter().map(|step| step.manifest.id.as_str()).collect();
            let message = format!(
                "{} depend on each other, so none can be first; remove one of the dependencies",
                ids.join(", ")
            );
            return Err(Failure::new(Code::DependencyCycle, message).with("plugins", ids).into());
        };
        steps.push(waiting.remove(at));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, id: &str, needs: &[&str]) -> PathBuf {
        let directory = root.join(id);
        std::fs::create_dir(&directory).unwrap();
        let needs: Vec<String> = needs.iter().map(|need| format!("{need} = '*'")).collect();
        let needs = needs.join("\n");
        let text = format!("id = '{id}'\nversion = '1.0.0'\n[dependencies]\n{needs}");
        std::fs::write(directory.join("plugin.toml"), text).unwrap();
        directory
    }

    fn ids(plan: &Plan) -> Vec<&str> {
        plan.steps.iter().map(|step| step.manifest.id.as_str()).collect()
    }

    #[test]
    fn what_others_need_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let a = write(root.path(), "a", &["b", "elsewhere"]);
        let b = write(root.path(), "b", &["c"]);
        let c = write(root.path(), "c", &[]);
        let d = write(root.path(), "d", &[]);
        let plan = Plan::of(&[a, d, b, c], &[]).unwrap();
        assert_eq!(ids(&plan), ["d", "c", "b", "a"]);
    }

    #[test]
    fn a_cycle_has_no_first() {
        let root = tempfile::tempdir().unwrap();
        let directories = [
            write(root.path(), "a", &["b"]),
            write(root.path(), "b", &["a"]),
            write(root.path(), "c", &[]),
        ];
        let problem = Plan::of(&directories, &[]).unwrap_err();
        assert_eq!(problem.code, "DEPENDENCY_CYCLE");
        assert!(problem.message.starts_with("a, b depend"), "{problem:?}");
    }

    #[test]
    fn the_same_plugin_twice_is_a_mistake() {
        let root = tempfile::tempdir().unwrap();
        let a = write(root.path(), "a", &[]);
        assert!(Plan::of(&[a.clone(), a], &[]).unwrap_err().message.contains("both the plugin a"));
    }

    #[test]
    fn configurations_find_their_plugin() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (write(root.path(), "a", &[]), write(root.path(), "b", &[]));
        let file = root.path().join("c.json");
        std::fs::write(&file, "{\"x\": 1}").unwrap();
        let file = file.to_str().unwrap();
        let one = Plan::of(std::slice::from_ref(&a), &[file.to_owned()]).unwrap();
        assert_eq!(one.steps[0].config, Some(serde_json::json!({"x": 1})));
        let both = [a, b];
        let two = Plan::of(&both, &[format!("b={file}")]).unwrap();
        assert!(two.steps[0].config.is_none() && two.steps[1].config.is_some());
        for (configs, word) in [
            (vec![file.to_owned()], "several"),
            (vec![format!("x={file}")], "no plugin x"),
            (vec![format!("a={file}"), format!("a={file}")], "already"),
        ] {
            let problem = Plan::of(&both, &configs).unwrap_err();
            assert_eq!(problem.exit_code, 2);
            assert!(problem.message.contains(word), "{problem:?}");
        }
    }
}
