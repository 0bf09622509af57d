//! Plugins as the API shows them.

use serde_json::{Map, Value, json};

use crate::clock::Monotonic;
use crate::supervise::plugin::PluginHandle;
use crate::supervise::registry::Broken;
use crate::supervise::usage;

/// A plugin with all that is known of it.
pub(super) fn plugin(handle: &PluginHandle, strict: bool) -> Value {
    let (manifest, view) = (&handle.manifest, handle.view());
    let process = view.process.as_ref().map(|process| {
        json!({
            "generation": process.generation,
            "pid": process.pid,
            "cgroup": process.cgroup,
            "startedAt": process.started_at,
            "uptimeMs": process.started.until(Monotonic::now()).as_millis() as u64,
        })
    });
    let usage = view.process.as_ref().and_then(|p| p.cgroup.as_deref()).map(usage::read);
    let dependencies: Map<String, Value> = manifest
        .dependencies
        .iter()
        .map(|(id, required)| (id.to_string(), Value::String(required.to_string())))
        .collect();
    json!({
        "id": view.id,
        "version": manifest.version,
        "name": manifest.name,
        "description": manifest.description,
        "author": manifest.author,
        "homepage": manifest.homepage,
        "state": view.state,
        "desired": if view.enabled { "enabled" } else { "disabled" },
        "digest": view.digest,
        "installedAt": view.installed_at,
        "permissions": manifest.permissions,
        "dependencies": dependencies,
        "provides": manifest.provides.keys().collect::<Vec<_>>(),
        "config": view.config,
        "limits": manifest.limits,
        "policy": manifest.policy(strict),
        "process": process,
        "enforcement": view.process.as_ref().map(|process| &*process.enforcement),
        "usage": usage,
        "failures": view.failures,
        "lastExit": view.last_exit,
        "lastError": view.last_failure,
    })
}

/// A plugin that cannot be managed: what the store knows of it, and why.
pub(super) fn broken(broken: &Broken) -> Value {
    let row = &broken.row;
    json!({
        "id": row.id,
        "version": row.version,
        "state": broken.state(),
        "desired": if row.enabled { "enabled" } else { "disabled" },
        "digest": row.digest,
        "installedAt": row.installed_at,
        "config": row.config,
        "process": null,
        "lastExit": row.last_exit,
        "lastError": broken.failure,
    })
}
