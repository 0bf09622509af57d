//! What a request to start a plugin must be, whoever wrote it.
//!
//! The supervisor parses what strangers wrote, so each request is read here as if it were theirs:
//! against a grammar, against the administrator's configuration, and against the sandbox's floors.
//! Uid, storage and the mounts of `/plugin` and `/data` are not in the request at all: the launcher
//! adds them itself.

use std::path::{Path, PathBuf};

use bulkhead_sandbox::floors::{self, AllowedSources, Ceilings, FloorViolation};
use bulkhead_sandbox::seccomp::CompileError;
use bulkhead_sandbox::{Access, Layer, Mount, Policy, Strictness, overlap};

use super::package_store::check_path;
use crate::capacity::Demand;
use crate::failure::{Code, Failure};
use crate::link::{MAX_PACKET, Spawn};

/// Where a plugin finds its own tree.
pub(super) const PLUGIN_TARGET: &str = "/plugin";
/// Where a plugin finds its storage.
pub(super) const DATA_TARGET: &str = "/data";
/// Arguments, and variables of the environment, at most.
const MAX_WORDS: usize = 256;
/// Bytes of the names of all sources together, at most: a supervisor that takes the plugin over is told them,
/// with all else about it, in one packet.
const MAX_SOURCES: usize = MAX_PACKET / 2;
/// Variables that change what the dynamic loader or libc does with the verified binary.
const LOADER_PREFIXES: [&str; 3] = ["LD_", "GLIBC_", "MALLOC_"];
const LOADER_VARIABLES: [&str; 5] =
    ["GCONV_PATH", "LOCPATH", "NLSPATH", "HOSTALIASES", "RESOLV_HOST_CONF"];

/// What the administrator's configuration allows.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// No layer may be missing.
    pub(super) strict: bool,
    pub(super) sources: AllowedSources,
    /// The most that one plugin can have.
    pub(super) ceilings: Ceilings,
    /// The service's own directories and socket, of which no plugin is ever shown anything.
    pub(super) own: Vec<PathBuf>,
}

/// Checks a request by what it names, without a look at any of it, and gives the policy to enforce. Without
/// `/plugin` and `/data`: see [`complete`].
pub(super) fn examine(spawn: &Spawn, rules: &Rules) -> Result<Policy, Failure> {
    check_path(&spawn.entry).map_err(|why| {
        Failure::new(
            Code::EntryInvalid,
            format!("entry {:?} is no path within a package: {why}", spawn.entry),
        )
        .with("path", &spawn.entry)
        .with("stage", "lookup")
    })?;
    check_words(spawn)?;
    let policy = spawn.policy.0.clone();
    if rules.strict && policy.strictness != Strictness::Strict {
        return Err(denied(
            "strictness",
            "the launcher's configuration says `mode = \"strict\"`, and no request can lower it",
        ));
    }
    let sources = policy.filesystem.mounts.iter().map(|mount| mount.source.as_os_str().len());
    let named: usize = sources.sum();
    if named > MAX_SOURCES {
        let text = format!(
            "the sources of its mounts have {named} bytes together, of {MAX_SOURCES} at most; show a common parent"
        );
        return Err(Failure::new(Code::InvalidRequest, text)
            .with("limit", MAX_SOURCES)
            .with("used", named));
    }
    for mount in &policy.filesystem.mounts {
        check_target(mount)?;
        check_own(mount, rules)?;
    }
    // Judged by name first: what is not allowed is not even looked at. The others are judged in [`settle`].
    let is_allowed = |path: &Path| {
        let sources = &rules.sources;
        sources.read_only.iter().chain(&sources.read_write).any(|allowed| path.starts_with(allowed))
    };
    let mut named = policy.clone();
    named.filesystem.mounts.retain(|mount| !is_allowed(&mount.source));
    floors::check(&named, &rules.sources, &rules.ceilings).map_err(floor)?;
    Ok(policy)
}

/// What the paths of sources are after every link. Waits for the file systems that they are of.
pub(super) fn resolve(sources: Vec<PathBuf>) -> Result<Vec<PathBuf>, Failure> {
    let resolved = |source: PathBuf| {
        std::fs::canonicalize(&source).map_err(|error| {
            Failure::new(Code::NotFound, format!("cannot mount {}: {error}", source.display()))
                .with("what", "mount source")
                .with("name", source)
        })
    };
    sources.into_iter().map(resolved).collect()
}

/// Replaces the sources by what they are after every link, so that the floors see the true places.
pub(super) fn settle(
    policy: &mut Policy,
    resolved: Vec<PathBuf>,
    rules: &Rules,
) -> Result<(), Failure> {
    for (mount, source) in policy.filesystem.mounts.iter_mut().zip(resolved) {
        mount.source = source;
        check_own(mount, rules)?;
    }
    floors::check(policy, &rules.sources, &rules.ceilings).map_err(floor)?;
    // What a plugin may write is not executed by any, however a request would have it shown.
    let is_written =
        |source: &Path| rules.sources.read_write.iter().any(|written| overlap(written, source));
    for mount in &mut policy.filesystem.mounts {
        if mount.access == Access::ReadOnly && is_written(&mount.source) {
            mount.access = Access::ReadData;
        }
    }
    Ok(())
}

fn check_words(spawn: &Spawn) -> Result<(), Failure> {
    let invalid = |what: &str, value: &str, why: &str| {
        Failure::new(Code::InvalidRequest, format!("{what} {value:?} {why}")).with("value", value)
    };
    if spawn.args.len() > MAX_WORDS || spawn.env.len() > MAX_WORDS {
        return Err(invalid(
            "spawn",
            spawn.id.as_str(),
            "has more than 256 arguments or variables",
        ));
    }
    if let Some(arg) = spawn.args.iter().find(|arg| arg.contains('\0')) {
        return Err(invalid("argument", arg, "has a NUL"));
    }
    for (name, value) in &spawn.env {
        let plain = name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
        if name.is_empty() || !plain || name.as_bytes()[0].is_ascii_digit() {
            return Err(invalid("variable", name, "is no name: use letters, digits and `_`"));
        }
        if value.contains('\0') {
            return Err(invalid("the value of", name, "has a NUL"));
        }
        if LOADER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || LOADER_VARIABLES.contains(&name.as_str())
        {
            return Err(denied(
                "environment",
                &format!("variable {name} changes what the loader makes of the verified binary"),
            )
            .with("variable", name));
        }
    }
    Ok(())
}

fn check_target(mount: &Mount) -> Result<(), Failure> {
    for own in [PLUGIN_TARGET, DATA_TARGET] {
        if mount.target.starts_with(own) || Path::new(own).starts_with(&mount.target) {
            return Err(denied(
                "target",
                &format!(
                    "{} is the plugin's own and cannot be mounted over",
                    mount.target.display()
                ),
            )
            .with("path", &mount.target));
        }
    }
    if floors::is_shown(&mount.target) && mount.source != mount.target {
        return Err(denied(
            "target",
            &format!(
                "{} is shown as it is on the machine and {} cannot take its place",
                mount.target.display(),
                mount.source.display()
            ),
        )
        .with("path", &mount.target));
    }
    if !mount.source.is_absolute() {
        return Err(denied(
            "source",
            &format!("{} must be an absolute path", mount.source.display()),
        )
        .with("path", &mount.source));
    }
    Ok(())
}

/// Nothing of the service's own is shown, nor what has it in it.
fn check_own(mount: &Mount, rules: &Rules) -> Result<(), Failure> {
    if let Some(own) = rules.own.iter().find(|own| overlap(own, &mount.source)) {
        let what = if mount.source.starts_with(own) { "is" } else { "has in it what is" };
        return Err(denied(
            "source",
            &format!(
                "{} {what} the service's own ({}) and is never mounted; name what the plugin needs of it",
                mount.source.display(),
                own.display()
            ),
        )
        .with("path", &mount.source));
    }
    Ok(())
}

/// What an admitted plugin may use at most, by what all have a limit of.
pub(super) fn demand(policy: &Policy) -> Demand {
    let limits = &policy.limits;
    // The floors refuse what has none.
    Demand {
        memory: limits.memory.unwrap_or(u64::MAX),
        pids: limits.pids.map_or(u64::MAX, u64::from),
    }
}

/// Adds what every plugin has: its tree, read-only, and its storage.
pub(super) fn complete(mut policy: Policy, tree: &Path, data: &Path) -> Policy {
    let own = [Mount::read_only(tree, PLUGIN_TARGET), Mount::read_write(data, DATA_TARGET)];
    policy.filesystem.mounts.splice(0..0, own);
    policy
}

fn denied(floor: &str, why: &str) -> Failure {
    Failure::new(Code::PermissionDenied, why).with("floor", floor)
}

fn floor(violation: FloorViolation) -> Failure {
    let text = violation.to_string();
    match violation {
        FloorViolation::Syscall(CompileError::Never { call, .. }) => {
            denied("syscall", &text).with("syscall", call).with("layer", Layer::Seccomp)
        }
        FloorViolation::Syscall(_) => Failure::new(Code::InvalidRequest, text),
        FloorViolation::Source { path, writable } => {
            let key = if writable { "read_write" } else { "read_only" };
            let shown = path.display().to_string();
            let remedy = format!("[mounts] {key} = [{shown:?}] in the service's configuration");
            denied("source", &text)
                .with("path", path)
                .with("layer", Layer::PrivateRoot)
                .with("remedy", remedy)
        }
        FloorViolation::Target { target } => denied("target", &text).with("path", target),
        FloorViolation::Path { path } => denied("path", &text).with("path", path),
        FloorViolation::HostNetwork => denied("network", &text),
        FloorViolation::OpenFiles { asked, limit } => {
            denied("nofile", &text).with("limit", limit).with("used", asked)
        }
        FloorViolation::Unlimited { what } => denied("limits", &text).with("resource", what),
        FloorViolation::TooMuch { what, asked, limit } => denied("limits", &text)
            .with("resource", what)
            .with("limit", limit)
            .with("used", asked)
            .with("remedy", format!("[limits] {what} in the service's configuration")),
        FloorViolation::Devices => denied("limits", &text).with("resource", "io"),
        _ => denied("policy", &text),
    }
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
