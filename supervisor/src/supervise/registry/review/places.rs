//! Whether the places of the machine that a plugin asks for can be shown to it.

use std::fs;
use std::io::ErrorKind;

use bulkhead_sandbox::floors::AllowedSources;
use bulkhead_sandbox::{Access, Mount, Policy};

use crate::id::PluginId;

/// Why it could not be enabled with all of them, and what to do.
pub(super) fn warnings(policy: &Policy, allowed: &AllowedSources, id: &PluginId) -> Vec<String> {
    let mounts = policy.filesystem.mounts.iter();
    mounts.filter_map(|mount| warning(mount, allowed, id)).collect()
}

fn warning(mount: &Mount, allowed: &AllowedSources, id: &PluginId) -> Option<String> {
    let place = mount.source.display();
    let (list, how) = match mount.access {
        Access::ReadOnly | Access::ReadData => ("read_only", "read"),
        Access::ReadWrite => ("read_write", "write to"),
    };
    let or = format!("before you enable it, or withhold the place: `bulkhead revoke {id} {place}`");
    let denied = |real: &str| {
        format!(
            "it asks to {how} {place}{real}, which no line of `[mounts]` in bulkhead.toml allows; add it to \
             `{list}` there and restart the service {or}"
        )
    };
    // By name first, as the launcher does: what is not allowed is not even looked at.
    if !allowed.allows(mount) {
        return Some(denied(""));
    }
    match fs::canonicalize(&mount.source) {
        Ok(source) if !allowed.allows(&Mount { source: source.clone(), ..mount.clone() }) => {
            Some(denied(&format!(", which is {}", source.display())))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Some(format!("it asks to {how} {place}, which is not there; make it {or}"))
        }
        // What we may not look at, the launcher may.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    type Make = fn(PathBuf, PathBuf) -> Mount;

    #[test]
    fn a_place_that_is_not_allowed_or_not_there_is_a_warning_that_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        for name in ["readable", "writable", "other"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        symlink(root.join("other"), root.join("readable/link")).unwrap();
        let allowed = AllowedSources {
            read_only: vec![root.join("readable")],
            read_write: vec![root.join("writable")],
        };
        let told = |mount: Make, name: &str| {
            let mut policy = Policy::default();
            policy.filesystem.mounts = vec![mount(root.join(name), "/x".into())];
            warnings(&policy, &allowed, &"a".parse().unwrap()).pop()
        };
        let (read, write): (Make, Make) = (Mount::read_only, Mount::read_write);
        assert_eq!(told(read, "readable"), None);
        assert_eq!(told(read, "writable"), None);
        assert_eq!(told(write, "writable"), None);
        let says = |warning: Option<String>, parts: &[&str]| {
            let warning = warning.unwrap();
            for part in parts {
                assert!(warning.contains(part), "no {part:?} in {warning:?}");
            }
        };
        says(told(write, "readable"), &["`read_write`", "[mounts]", "revoke a /"]);
        says(told(read, "other"), &["`read_only`", "other"]);
        says(told(read, "readable/link"), &["readable/link, which is", "/other,"]);
        says(told(read, "readable/absent"), &["not there", "make it"]);
    }
}
