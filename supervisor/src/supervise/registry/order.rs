//! The order among plugins: what must be there before, what must be gone before.

use std::collections::{BTreeMap, BTreeSet};

use semver::{Version, VersionReq};
use serde_json::Value;

use super::Registry;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::manifest::Manifest;
use crate::supervise::plugin::PluginHandle;

impl Registry {
    /// What must be enabled before `id`, in that order. A dependency that is missing or of the
    /// wrong version, and a cycle, are refused.
    pub(super) fn dependency_order(&self, id: &PluginId) -> Result<Vec<PluginId>, Failure> {
        let mut order = Vec::new();
        let mut done = BTreeSet::new();
        self.visit(id, &mut vec![], &mut done, &mut order)?;
        order.retain(|dependency| dependency != id);
        Ok(order)
    }

    fn visit(
        &self,
        id: &PluginId,
        path: &mut Vec<PluginId>,
        done: &mut BTreeSet<PluginId>,
        order: &mut Vec<PluginId>,
    ) -> Result<(), Failure> {
        if done.contains(id) {
            return Ok(());
        }
        if let Some(start) = path.iter().position(|on_path| on_path == id) {
            let mut cycle: Vec<&str> = path[start..].iter().map(PluginId::as_str).collect();
            cycle.push(id.as_str());
            return Err(Failure::new(
                Code::DependencyCycle,
                format!("the dependencies go round: {}; none can be first", cycle.join(" → ")),
            )
            .with("cycle", cycle));
        }
        path.push(id.clone());
        for (dependency, required) in &self.get(id)?.manifest.dependencies {
            let found = self.find(dependency).map(|handle| handle.manifest.version.clone());
            check_dependency(id, dependency, required, found)?;
            self.visit(dependency, path, done, order)?;
        }
        path.pop();
        done.insert(id.clone());
        order.push(id.clone());
        Ok(())
    }

    /// The requirement that `id` has on `dependency`, itself or through others.
    pub(super) fn requirement(&self, id: &PluginId, dependency: &PluginId) -> Value {
        let required =
            self.find(id).and_then(|handle| handle.manifest.dependencies.get(dependency).cloned());
        required.map_or(Value::Null, |required| Value::String(required.to_string()))
    }

    /// The plugins that are not at rest and depend on `id`.
    pub(crate) fn enabled_dependents(&self, id: &PluginId) -> Vec<String> {
        self.all()
            .into_iter()
            .filter(|handle| handle.manifest.dependencies.contains_key(id))
            .filter(|handle| handle.view().state != "disabled")
            .map(|handle| handle.manifest.id.to_string())
            .collect()
    }

    /// DEPENDENTS_ENABLED while plugins that are not at rest depend on `id`.
    pub(super) fn check_dependents(&self, id: &PluginId) -> Result<(), Failure> {
        let dependents = self.enabled_dependents(id);
        if dependents.is_empty() {
            return Ok(());
        }
        Err(Failure::dependents_enabled(id, &dependents))
    }

    /// VERSION_INCOMPATIBLE where a plugin that is not at rest needs another version of `id` than
    /// this manifest's.
    pub(super) fn check_fits_dependents(
        &self,
        id: &PluginId,
        manifest: &Manifest,
    ) -> Result<(), Failure> {
        let unfit = self.all().into_iter().find_map(|handle| {
            let required = handle.manifest.dependencies.get(id)?;
            let fits = required.matches(&manifest.version) || handle.view().state == "disabled";
            (!fits).then(|| (handle.manifest.id.clone(), required.clone()))
        });
        let Some((dependent, required)) = unfit else { return Ok(()) };
        Err(Failure::new(
            Code::VersionIncompatible,
            format!(
                "{dependent}, which is enabled, needs {id} {required}, which {} is not; disable \
                 {dependent}, or upgrade it first",
                manifest.version
            ),
        )
        .with("what", "dependent")
        .with("dependent", dependent)
        .with("required", required.to_string())
        .with("found", manifest.version.to_string()))
    }

    /// DEPENDENCY_MISSING where one of the plugins that this manifest names is not installed in a
    /// version that will do.
    pub(super) fn check_dependencies(&self, manifest: &Manifest) -> Result<(), Failure> {
        for (dependency, required) in &manifest.dependencies {
            let found = self.find(dependency).map(|handle| handle.manifest.version.clone());
            check_dependency(&manifest.id, dependency, required, found)?;
        }
        Ok(())
    }

    /// All plugins in groups: those of a group can be stopped together, each group before the next.
    pub(super) fn shutdown_levels(&self) -> Vec<Vec<PluginHandle>> {
        let all = self.all();
        let mut depths: BTreeMap<PluginId, usize> = BTreeMap::new();
        // A plugin is one deeper than what it depends on; a cycle cannot have been enabled, and
        // the number of rounds is bounded all the same.
        for _ in 0..=all.len() {
            for handle in &all {
                let depth = handle
                    .manifest
                    .dependencies
                    .keys()
                    .filter_map(|dependency| depths.get(dependency))
                    .map(|depth| depth + 1)
                    .max()
                    .unwrap_or(0)
                    .min(all.len());
                depths.insert(handle.manifest.id.clone(), depth);
            }
        }
        let mut levels: BTreeMap<usize, Vec<PluginHandle>> = BTreeMap::new();
        for handle in all {
            let depth = depths.get(&handle.manifest.id).copied().unwrap_or(0);
            levels.entry(depth).or_default().push(handle);
        }
        levels.into_values().rev().collect()
    }
}

/// DEPENDENCY_MISSING unless the version that was found will do.
fn check_dependency(
    id: &PluginId,
    dependency: &PluginId,
    required: &VersionReq,
    found: Option<Version>,
) -> Result<(), Failure> {
    if found.as_ref().is_some_and(|version| required.matches(version)) {
        return Ok(());
    }
    let what = match &found {
        Some(version) => format!("version {version} is installed"),
        None => "it is not installed".to_owned(),
    };
    Err(Failure::new(
        Code::DependencyMissing,
        format!("{id} needs {dependency} {required}, but {what}; install one that fits"),
    )
    .with("dependency", dependency)
    .with("required", required.to_string())
    .with("found", found.map(|version| version.to_string())))
}
