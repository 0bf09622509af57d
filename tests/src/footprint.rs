//! What a service has on its machine: for a test that asks whether something was left behind.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::service::Service;

/// Files, cgroups, processes and plugins of a service, without what differs from run to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Below the state, but for the store's own files and what is in the logs.
    files: BTreeSet<String>,
    /// The names of the compartments.
    cgroups: BTreeSet<String>,
    /// How many processes plugins have.
    processes: usize,
    /// Of each plugin: id, version, previous version, state, what is wanted, the configuration.
    plugins: Vec<[Value; 6]>,
    /// The versions that have signed the state of each, where it is one that signs.
    signers: Vec<BTreeSet<String>>,
}

impl Footprint {
    /// As it is now; `None` while a plugin is in the midst of something, or the launcher in that of writing
    /// a file: a draft that takes the place of its file in a moment is no more what there is than what was
    /// before. One that stays is never settled.
    pub fn of(service: &Service) -> Option<Self> {
        let plugins = service.json(["ls"])["plugins"].as_array().unwrap().clone();
        let settled = plugins.iter().all(|plugin| {
            let state = plugin["state"].as_str().unwrap();
            (state == "enabled" || state == "disabled") && plugin["desired"] == plugin["state"]
        });
        if !settled {
            return None;
        }
        let mut files = BTreeSet::new();
        collect(&service.directory().join("state"), "", &mut files);
        if files.iter().any(|file| Path::new(file).extension().is_some_and(|it| it == "draft")) {
            return None;
        }
        Some(Self {
            files,
            cgroups: cgroups(&plugins),
            processes: service.plugin_processes().len(),
            signers: plugins
                .iter()
                .map(|plugin| signers(service, plugin))
                .collect::<Option<_>>()?,
            plugins: plugins
                .iter()
                .map(|plugin| {
                    let field = |name: &str| plugin[name].clone();
                    let previous = plugin["previous"]["version"].clone();
                    let (state, desired) = (field("state"), field("desired"));
                    [field("id"), field("version"), previous, state, desired, field("config")]
                })
                .collect(),
        })
    }
}

/// Without how often: each start signs again. `None` where it has just gone.
fn signers(service: &Service, plugin: &Value) -> Option<BTreeSet<String>> {
    let id = plugin["id"].as_str().unwrap();
    let outcome = service.command(["state", id, "--json"]).run();
    if outcome.code() != 0 {
        return None;
    }
    let reply: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let entries = reply["entries"].as_array().unwrap();
    let signed = entries.iter().find(|entry| entry["key"] == "signed");
    let versions = signed.and_then(|entry| entry["value"].as_array()).into_iter().flatten();
    Some(versions.map(|version| version.as_str().unwrap().to_owned()).collect())
}

fn collect(directory: &Path, shown: &str, files: &mut BTreeSet<String>) {
    let entries = match std::fs::read_dir(directory) {
        // It was just being removed.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        entries => entries.unwrap(),
    };
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let shown = format!("{shown}/{name}");
        // The database has two more files while it is open; the marker is the pause's.
        if name.starts_with("bulkhead.db") || name == "paused" {
            continue;
        }
        // An archive has the time in its name.
        let shown = match shown.strip_suffix(".tar.zst").and_then(|name| name.rsplit_once('-')) {
            Some((name, _)) => format!("{name}.tar.zst"),
            None => shown,
        };
        let is_directory = entry.file_type().unwrap().is_dir();
        files.insert(shown.clone());
        // What is in a log, or how many pieces it has, depends on what ran.
        if is_directory && !shown.starts_with("/supervisor/logs/") {
            collect(&entry.path(), &shown, files);
        }
    }
}

/// The cgroups beside those of the plugins that run: another's compartment would be one too many.
fn cgroups(plugins: &[Value]) -> BTreeSet<String> {
    let shown = plugins.iter().filter_map(|plugin| plugin["process"]["cgroup"].as_str());
    let Some(parent) = shown.clone().find_map(|cgroup| Path::new(cgroup).parent()) else {
        return BTreeSet::new();
    };
    std::fs::read_dir(parent)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}
