//! The supervisor's own compartment: what it goes on to need, of which everything else is given up.
//!
//! The paths come from the launcher and from this file; nothing of a plugin's or a client's has been read yet.

use std::path::{Path, PathBuf};

use bulkhead_sandbox::confinement::Confinement;
use bulkhead_sandbox::probe::{Machine, State};
use bulkhead_sandbox::{Enforcement, Layer, Missing, SYSTEM};
use serde_json::Value;

use crate::journal;
use crate::link::Settings;

/// What of the machine is read, besides its programs and libraries. Directories, as whoever changes a file
/// of the system replaces it by another, for which no rule is there.
const READ: [&str; 3] = [
    // Names of hosts and users, the time zone, where libraries are looked for.
    "/etc",
    // What the machine has, and the plugins' network counters.
    "/proc",
    // What the plugins use.
    "/sys/fs/cgroup",
];
const RESOLVER: &str = "/etc/resolv.conf";

/// A layer that this machine has and that is not in force.
#[derive(Debug, thiserror::Error)]
#[error("the supervisor's own compartment lacks `{}`, which this machine has: {}; to do: {}. Mode best-effort goes on without", .0.layer, .0.why, .0.remedy)]
pub(super) struct Unconfined(Missing);

/// Confines this process, which has one thread; what came of it.
///
/// # Errors
/// In mode strict, a layer that the machine has and that is not in force.
pub(super) fn enter(settings: &Settings) -> Result<Enforcement, Unconfined> {
    let confinement = Confinement {
        read: read(settings),
        write: vec![settings.state.clone()],
        // Of the plugins' lines and our own: the directory, as the socket is made anew with the journal.
        sockets: Path::new(journal::SOCKET).parent().map(PathBuf::from).into_iter().collect(),
        own_uid: settings.launcher_uid != nix::unistd::geteuid().as_raw(),
    };
    let found = confinement.enforce();
    let names: Vec<&str> = found
        .layers
        .iter()
        .filter(|layer| layer.enforced)
        .map(|layer| layer.layer.name())
        .collect();
    tracing::info!(in_force = names.join(" "), "the supervisor is in a compartment of its own");
    for missing in found.missing() {
        tracing::warn!(layer = %missing.layer, why = missing.why, remedy = missing.remedy, "the supervisor's own compartment lacks a layer");
    }
    match lacking(&settings.machine, &found) {
        Some(missing) if settings.strict => Err(Unconfined(missing)),
        _ => Ok(found),
    }
}

/// The first layer that is not in force although the machine has it. One that it lacks is what `doctor` tells;
/// strict refuses plugins then, so the service is still there to say why.
fn lacking(machine: &Value, found: &Enforcement) -> Option<Missing> {
    let machine: Option<Machine> = serde_json::from_value(machine.clone()).ok();
    let has = |layer: Layer| {
        let found = machine.as_ref().and_then(|machine| machine.layer(layer));
        found.is_none_or(|found| found.state == State::Enforced)
    };
    found.missing().find(|missing| has(missing.layer)).cloned()
}

fn read(settings: &Settings) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = READ.map(PathBuf::from).to_vec();
    paths.extend(SYSTEM.iter().map(|name| Path::new("/").join(name)));
    paths.push(settings.store.clone());
    paths.extend(settings.advisories.as_ref().map(|advisories| advisories.path.clone()));
    paths.extend(where_it_leads(Path::new(RESOLVER)));
    // A panic's backtrace has names by it.
    paths.extend(std::env::current_exe());
    paths
}

/// The directory in which the file lies that a link names, or will lie: a resolver may be started later and
/// make it, and replaces the file when it learns of other name servers.
fn where_it_leads(link: &Path) -> Option<PathBuf> {
    let target = link.parent()?.join(std::fs::read_link(link).ok()?);
    let place = target.ancestors().skip(1).find_map(|place| place.canonicalize().ok())?;
    // The whole machine would be no rule.
    (place != Path::new("/")).then_some(place)
}

#[cfg(test)]
mod tests {
    use bulkhead_sandbox::Measured;
    use serde_json::json;

    use super::*;

    #[test]
    fn strict_insists_on_what_the_machine_has_and_on_nothing_else() {
        let layer = Layer::LandlockFiles;
        let (why, remedy) = ("restricting failed".to_owned(), "report this".to_owned());
        let missing = Missing { layer, why, remedy, stood_in_by: None };
        let unmeasured = Measured {
            layer,
            asked: "12 rules".into(),
            measured: "not in force".into(),
            enforced: false,
            missing: Some(missing.clone()),
        };
        let found = Enforcement { layers: vec![unmeasured] };
        let machine = |state: &str| {
            json!({
                "kernel": "6.12", "architecture": "x86_64", "uid": 0, "landlock_abi": 6,
                "layers": [{ "layer": "landlock-files", "state": state, "detail": "" }],
            })
        };
        assert_eq!(lacking(&machine("enforced"), &found), Some(missing.clone()));
        assert_eq!(lacking(&machine("missing"), &found), None);
        // What cannot be read excuses nothing.
        assert_eq!(lacking(&Value::Null, &found), Some(missing));
        assert_eq!(lacking(&Value::Null, &Enforcement::default()), None);
    }

    #[test]
    fn a_resolver_that_is_not_up_yet_finds_its_file_readable_later() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let link = root.join("etc/resolv.conf");
        std::fs::create_dir_all(root.join("run/resolver")).unwrap();
        std::fs::create_dir(root.join("etc")).unwrap();
        std::os::unix::fs::symlink("../run/resolver/deep/resolv.conf", &link).unwrap();
        assert_eq!(where_it_leads(&link), Some(root.join("run/resolver")));
        std::fs::create_dir(root.join("run/resolver/deep")).unwrap();
        assert_eq!(where_it_leads(&link), Some(root.join("run/resolver/deep")));
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/nonexistent/resolv.conf", &link).unwrap();
        assert_eq!(where_it_leads(&link), None);
        // A file is found by its own directory's rule.
        std::fs::remove_file(&link).unwrap();
        std::fs::write(&link, "").unwrap();
        assert_eq!(where_it_leads(&link), None);
    }
}
