use bulkhead_sandbox::{Access, CpuMax, DiskMax, Limits, Network};
use serde_json::json;

use super::*;
use crate::id::Digest;
use crate::link::Json;

/// As a manifest that says nothing of it.
fn policy() -> Policy {
    let (cpu, file_size) = (Some(CpuMax::percent(100)), Some(1 << 20));
    Policy { limits: Limits { cpu, file_size, ..Limits::default() }, ..Policy::default() }
}

fn spawn(change: impl FnOnce(&mut Spawn)) -> Spawn {
    let mut spawn = Spawn {
        id: "a".parse().unwrap(),
        digest: Digest::of(b""),
        entry: "bin/a".into(),
        args: vec!["--flag".into()],
        env: vec![("TZ".into(), "UTC".into())],
        policy: Json(policy()),
    };
    change(&mut spawn);
    spawn
}

/// All that is checked of a request, one after the other.
fn admit(spawn: &Spawn, rules: &Rules) -> Result<Policy, Failure> {
    let mut policy = examine(spawn, rules)?;
    let sources = policy.filesystem.mounts.iter().map(|mount| mount.source.clone()).collect();
    settle(&mut policy, resolve(sources)?, rules)?;
    Ok(policy)
}

fn refused(rules: &Rules, change: impl FnOnce(&mut Spawn)) -> Failure {
    admit(&spawn(change), rules).unwrap_err()
}

fn mount(source: &Path, target: &str, access: Access) -> Mount {
    Mount { source: source.to_owned(), target: target.into(), access }
}

#[test]
fn what_asks_for_nothing_more_is_admitted() {
    let policy = admit(&spawn(|_| {}), &Rules { strict: true, ..Rules::default() }).unwrap();
    assert_eq!(policy, self::policy());
    let complete = complete(policy, Path::new("/s/tree"), Path::new("/s/data"));
    assert_eq!(
        complete.filesystem.mounts,
        [Mount::read_only("/s/tree", "/plugin"), Mount::read_write("/s/data", "/data")]
    );
}

#[test]
fn an_entry_stays_within_its_tree() {
    for entry in ["../../bin/sh", "/bin/sh", "bin/../../sh", "bin//sh", "", "./a", "a/.", "a\nb"] {
        let failure = refused(&Rules::default(), |spawn| spawn.entry = entry.into());
        assert_eq!(failure.code, Code::EntryInvalid, "{entry}");
    }
}

#[test]
fn no_request_lowers_the_strictness() {
    let best_effort = |spawn: &mut Spawn| spawn.policy.0.strictness = Strictness::BestEffort;
    let failure = refused(&Rules { strict: true, ..Rules::default() }, best_effort);
    assert_eq!(
        (failure.code, &failure.details["floor"]),
        (Code::PermissionDenied, &"strictness".into())
    );
    assert!(admit(&spawn(best_effort), &Rules::default()).is_ok());
}

#[test]
fn calls_of_the_never_list_and_the_open_network_are_denied() {
    let rules = Rules::default();
    let failure = refused(&rules, |spawn| spawn.policy.0.allow_syscalls = vec!["ptrace".into()]);
    assert_eq!(
        (failure.code, &failure.details["syscall"]),
        (Code::PermissionDenied, &"ptrace".into())
    );
    assert_eq!(failure.details["layer"], "seccomp");
    let failure = refused(&rules, |spawn| spawn.policy.0.network = Network::Host);
    assert_eq!(
        (failure.code, &failure.details["floor"]),
        (Code::PermissionDenied, &"network".into())
    );
    let failure = refused(&rules, |spawn| spawn.policy.0.limits.nofile = u64::MAX);
    assert_eq!(failure.details["floor"], "nofile");
    // The control: a call that may be allowed is.
    let allowed = spawn(|spawn| spawn.policy.0.allow_syscalls = vec!["sysinfo".into()]);
    assert!(admit(&allowed, &rules).is_ok());
}

#[test]
fn no_request_is_without_limits_or_above_the_ceilings() {
    let disks = DiskMax { wbps: Some(1 << 20), ..DiskMax::default() };
    let rules =
        Rules { ceilings: Ceilings { cpu: Some(100), file_size: None, disks }, ..Rules::default() };
    let bounded = |spawn: &mut Spawn| spawn.policy.0.limits.disks = Some(disks);
    admit(&spawn(bounded), &rules).unwrap();
    let failure = refused(&rules, |_| {});
    assert_eq!(failure.code, Code::PermissionDenied);
    assert_eq!(failure.details, json!({"floor": "limits", "resource": "io_write"}));
    let failure = refused(&rules, |spawn| {
        bounded(spawn);
        spawn.policy.0.limits.cpu = Some(CpuMax::percent(101));
    });
    let remedy = "[limits] cpu in the service's configuration";
    let details = json!({
        "floor": "limits", "resource": "cpu", "limit": 100, "used": 101, "remedy": remedy
    });
    assert_eq!((failure.code, failure.details), (Code::PermissionDenied, details));
}

#[test]
fn the_loader_is_not_told_what_to_load() {
    for name in ["LD_PRELOAD", "LD_AUDIT", "GLIBC_TUNABLES", "GCONV_PATH"] {
        let failure =
            refused(&Rules::default(), |spawn| spawn.env.push((name.into(), "/data/x.so".into())));
        assert_eq!(failure.code, Code::PermissionDenied, "{name}");
    }
    for name in ["", "A=B", "1A", "A B", "A\0"] {
        let failure = refused(&Rules::default(), |spawn| spawn.env.push((name.into(), "x".into())));
        assert_eq!(failure.code, Code::InvalidRequest, "{name:?}");
    }
    let failure = refused(&Rules::default(), |spawn| spawn.args = vec!["a\0b".into()]);
    assert_eq!(failure.code, Code::InvalidRequest);
    let failure = refused(&Rules::default(), |spawn| spawn.args = vec![String::new(); 257]);
    assert_eq!(failure.code, Code::InvalidRequest);
}

#[test]
fn only_configured_sources_are_mounted_and_links_do_not_lead_out() {
    let directory = tempfile::tempdir().unwrap();
    let root = std::fs::canonicalize(directory.path()).unwrap();
    let (allowed, secret) = (root.join("allowed"), root.join("secret"));
    for each in [&allowed, &secret] {
        std::fs::create_dir(each).unwrap();
    }
    std::os::unix::fs::symlink(&secret, allowed.join("way-out")).unwrap();
    let rules = Rules {
        strict: false,
        sources: AllowedSources { read_only: vec![allowed.clone()], read_write: Vec::new() },
        own: vec![allowed.join("state")],
        ..Rules::default()
    };
    for each in ["state", "data"] {
        std::fs::create_dir(allowed.join(each)).unwrap();
    }
    let data = allowed.join("data");
    let with = |source: &Path, target: &str, access| {
        admit(
            &spawn(|spawn| spawn.policy.0.filesystem.mounts = vec![mount(source, target, access)]),
            &rules,
        )
    };
    assert!(with(&data, "/srv", Access::ReadOnly).is_ok());
    for (source, target, access) in [
        (secret.as_path(), "/srv", Access::ReadOnly),
        (Path::new("/"), "/srv", Access::ReadOnly),
        (Path::new("relative"), "/srv", Access::ReadOnly),
        (&data, "/srv", Access::ReadWrite),
        (&allowed.join("way-out"), "/srv", Access::ReadOnly),
        (&allowed.join("../secret"), "/srv", Access::ReadOnly),
        (&allowed.join("state"), "/srv", Access::ReadOnly),
        (&data, "/plugin", Access::ReadOnly),
        (&data, "/plugin/bin", Access::ReadOnly),
        (&data, "/data", Access::ReadOnly),
        (&data, "/", Access::ReadOnly),
        (&data, "/proc/self", Access::ReadOnly),
        // In place of the machine's libraries and configuration.
        (&data, "/usr/lib/x86_64-linux-gnu", Access::ReadOnly),
        (&data, "/lib64/ld-linux-x86-64.so.2", Access::ReadOnly),
        (&data, "/etc/passwd", Access::ReadData),
    ] {
        let failure = with(source, target, access).unwrap_err();
        assert_eq!(failure.code, Code::PermissionDenied, "{source:?} at {target}: {failure}");
        assert!(failure.details.get("floor").is_some(), "{failure:?}");
    }
    let failure = with(&secret, "/srv", Access::ReadOnly).unwrap_err();
    let line = format!("[mounts] read_only = [{secret:?}]");
    assert!(failure.details["remedy"].as_str().unwrap().starts_with(&line), "{failure:?}");
    assert_eq!(failure.details["layer"], "private-root");
    let failure = with(&allowed.join("missing"), "/srv", Access::ReadOnly).unwrap_err();
    assert_eq!(failure.code, Code::NotFound);
}

#[test]
fn what_has_the_services_own_in_it_is_not_mounted_either() {
    let directory = tempfile::tempdir().unwrap();
    let home = std::fs::canonicalize(directory.path()).unwrap();
    let (state, project) = (home.join(".local/state"), home.join("project"));
    for each in [&state, &project] {
        std::fs::create_dir_all(each).unwrap();
    }
    let rules = Rules {
        strict: false,
        sources: AllowedSources { read_only: vec![home.clone()], read_write: Vec::new() },
        own: vec![state.clone(), project.join("admin.sock")],
        ..Rules::default()
    };
    let with = |source: &Path| {
        let mounts = vec![mount(source, "/srv", Access::ReadOnly)];
        admit(&spawn(|spawn| spawn.policy.0.filesystem.mounts = mounts.clone()), &rules)
    };
    for above in [&home, &home.join(".local"), &state, &project] {
        let failure = with(above).unwrap_err();
        assert_eq!(failure.details["floor"], "source", "{above:?}: {failure}");
    }
    std::fs::create_dir(project.join("data")).unwrap();
    assert!(with(&project.join("data")).is_ok());
}

#[test]
fn what_some_plugin_may_write_is_executed_by_none() {
    let directory = tempfile::tempdir().unwrap();
    let root = std::fs::canonicalize(directory.path()).unwrap();
    for each in ["tools", "shared/lib"] {
        std::fs::create_dir_all(root.join(each)).unwrap();
    }
    let rules = Rules {
        strict: false,
        sources: AllowedSources {
            read_only: vec![root.clone()],
            read_write: vec![root.join("shared")],
        },
        ..Rules::default()
    };
    let shown = |source: &str| {
        let mounts = vec![mount(&root.join(source), "/srv", Access::ReadOnly)];
        let policy =
            admit(&spawn(|spawn| spawn.policy.0.filesystem.mounts = mounts.clone()), &rules);
        policy.unwrap().filesystem.mounts[0].access
    };
    assert_eq!(shown("tools"), Access::ReadOnly);
    for written in ["shared", "shared/lib", ""] {
        assert_eq!(shown(written), Access::ReadData, "{written}");
    }
}

#[test]
fn what_no_supervisor_could_be_told_of_is_not_started() {
    let directory = tempfile::tempdir().unwrap();
    let shared = directory.path().canonicalize().unwrap();
    let sources = AllowedSources { read_only: vec![shared.clone()], read_write: Vec::new() };
    let rules = Rules { sources, ..Rules::default() };
    // Many names of the same place, each as long as a path can be.
    let asking = |count: usize| {
        let long = format!("{}{}", shared.display(), "/.".repeat(2000));
        spawn(|spawn| {
            let mounts = (0..count)
                .map(|number| mount(Path::new(&long), &format!("/{number}"), Access::ReadOnly));
            spawn.policy.0.filesystem.mounts = mounts.collect();
        })
    };
    let failure = admit(&asking(17), &rules).unwrap_err();
    assert_eq!(failure.code, Code::InvalidRequest, "{failure}");
    assert_eq!(failure.details["limit"], MAX_SOURCES);
    // The control: fewer are shown, each by its true name.
    let admitted = admit(&asking(16), &rules).unwrap();
    assert!(admitted.filesystem.mounts.iter().all(|mount| mount.source == shared));
}
