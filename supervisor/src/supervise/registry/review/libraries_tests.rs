use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use bulkhead_sandbox::Mount;
use bulkhead_sandbox::seccomp::Profile;
use serde_json::json;

use super::super::sample::Sample;
use super::*;
use crate::manifest::Manifest;

const LOADER: &str = "lib64/ld-linux-x86-64.so.2";

/// A machine with a loader and a libc, and a plugin's tree.
struct Machine {
    directory: tempfile::TempDir,
    policy: bulkhead_sandbox::Policy,
}

impl Machine {
    fn new(entry: &Sample) -> Self {
        let text = b"id = 'a'\nversion = '1.0.0'";
        let policy = Manifest::parse(text, Path::new("plugin.toml")).unwrap().policy(true);
        let machine = Self { directory: tempfile::tempdir().unwrap(), policy };
        machine.write(LOADER, &Sample::default());
        machine.write("usr/lib64/libc.so.6", &Sample::library(&["ld-linux-x86-64.so.2"]));
        machine.tree("bin/a", entry);
        machine
    }

    fn file(&self, path: &str, bytes: &[u8]) {
        let path = self.directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }

    fn write(&self, path: &str, sample: &Sample) {
        self.file(&format!("machine/{path}"), &sample.bytes());
    }

    fn tree(&self, path: &str, sample: &Sample) {
        self.file(&format!("tree/{path}"), &sample.bytes());
    }

    fn resolve(&self) -> Result<Vec<String>, Failure> {
        let root = self.directory.path().canonicalize().unwrap();
        let (machine, tree) = (root.join("machine"), root.join("tree"));
        let found = resolve(&Compartment::on(&machine, &self.policy, &tree), "bin/a")?;
        Ok(found.iter().map(|library| library.path.display().to_string()).collect())
    }

    fn missing(&self) -> Failure {
        let failure = self.resolve().unwrap_err();
        assert_eq!(failure.code, Code::DependencyMissing, "{failure}");
        failure
    }
}

#[test]
fn libraries_of_the_machine_are_found_with_their_own() {
    let machine = Machine::new(&Sample::program(&["libx.so.1", "libc.so.6"]));
    let failure = machine.missing();
    assert_eq!(failure.details["dependency"], "libx.so.1");
    assert_eq!(failure.details["neededBy"], "/plugin/bin/a");
    machine.write("usr/lib/libx.so.1", &Sample::library(&["liby.so"]));
    let failure = machine.missing();
    assert_eq!(
        (&failure.details["dependency"], &failure.details["neededBy"]),
        (&json!("liby.so"), &json!("/usr/lib/libx.so.1"))
    );
    machine.write("opt/y/liby.so", &Sample::library(&[]));
    // It is in the loader's configuration, and still not in the compartment.
    machine.file("machine/etc/ld.so.conf", b"include /etc/conf.d/*.conf # all\n/nowhere\n");
    machine.file("machine/etc/conf.d/y.conf", b"/opt/y\n/usr/y\n");
    machine.file("machine/etc/conf.d/y.txt", b"/usr/lib/other\n");
    assert_eq!(machine.missing().details["dependency"], "liby.so");
    machine.write("usr/y/liby.so", &Sample::library(&[]));
    assert_eq!(
        machine.resolve().unwrap(),
        [
            "/lib64/ld-linux-x86-64.so.2",
            "/usr/lib/libx.so.1",
            "/usr/lib64/libc.so.6",
            "/usr/y/liby.so"
        ]
    );
}

#[test]
fn a_package_brings_its_own_libraries() {
    let entry =
        Sample { runpath: Some("$ORIGIN/../lib"), ..Sample::program(&["libx.so.1", "libc.so.6"]) };
    let mut machine = Machine::new(&entry);
    machine.tree("lib/libx.so.1", &Sample { soname: Some("libown.so"), ..Sample::library(&[]) });
    assert_eq!(machine.resolve().unwrap()[1], "/plugin/lib/libx.so.1");
    // A RUNPATH is for the object's own needs, an RPATH for those of what it loads as well.
    machine.tree("lib/libx.so.1", &Sample::library(&["libz.so"]));
    machine.tree("lib/libz.so", &Sample::library(&[]));
    assert_eq!(machine.missing().details["neededBy"], "/plugin/lib/libx.so.1");
    let rpath = Sample { rpath: entry.runpath, runpath: None, ..entry.clone() };
    machine.tree("bin/a", &rpath);
    assert_eq!(machine.resolve().unwrap().last().unwrap(), "/plugin/lib/libz.so");
    // The way out of the tree is closed.
    machine.file("tree/secret/libz.so", &Sample::library(&[]).bytes());
    machine.tree("bin/a", &Sample { runpath: Some("$ORIGIN/../../tree/secret"), ..entry.clone() });
    assert_eq!(machine.missing().details["dependency"], "libx.so.1");
    // musl's loader knows the program's place from /proc only.
    let musl = "/lib/ld-musl-x86_64.so.1";
    machine.write(&musl[1..], &Sample::default());
    machine.write("usr/lib/libc.so.6", &Sample::library(&[]));
    machine.tree("lib/libx.so.1", &Sample::library(&[]));
    machine.tree("bin/a", &Sample { interpreter: Some(musl), ..entry });
    assert_eq!(machine.missing().details["dependency"], "libx.so.1");
    machine.policy.filesystem.proc = true;
    machine.resolve().unwrap();
}

#[test]
fn a_name_that_is_loaded_already_is_not_looked_for() {
    let entry = Sample { runpath: Some("/plugin/lib"), ..Sample::program(&["libx.so", "libb.so"]) };
    let machine = Machine::new(&entry);
    machine.tree("lib/libx.so", &Sample { soname: Some("libx.so.7"), ..Sample::library(&[]) });
    machine.tree("lib/libb.so", &Sample::library(&["libx.so.7", "libx.so"]));
    assert_eq!(machine.resolve().unwrap().len(), 3);
}

#[test]
fn what_is_there_and_does_not_fit_is_said() {
    let machine = Machine::new(&Sample::program(&["libx.so", "libc.so.6"]));
    let other = Sample { machine: elf::abi::EM_RISCV, ..Sample::library(&[]) };
    machine.write("usr/lib64/libx.so", &other);
    assert!(machine.missing().message.contains("/usr/lib64/libx.so does not fit"));
    // One that fits further on is taken.
    machine.write("usr/lib/libx.so", &Sample::library(&[]));
    machine.resolve().unwrap();
    // The plugin's uid is nobody's here.
    let path = machine.directory.path().join("machine/usr/lib/libx.so");
    std::fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap();
    machine.missing();
}

#[test]
fn a_link_out_of_what_is_shown_leads_nowhere() {
    let mut machine = Machine::new(&Sample::program(&["libx.so", "libc.so.6"]));
    machine.write("opt/x/libx.so", &Sample::library(&[]));
    std::os::unix::fs::symlink(
        machine.directory.path().join("machine/opt/x/libx.so"),
        machine.directory.path().join("machine/usr/lib64/libx.so"),
    )
    .unwrap();
    machine.missing();
    machine.policy.filesystem.mounts.push(Mount::read_only("/opt/x", "/opt/x"));
    machine.resolve().unwrap();
    // What a place has in it is not read, so not even that it is no library is known; only that all may read it.
    machine.file("machine/opt/x/libx.so", b"no library");
    assert!(machine.resolve().unwrap().contains(&"/usr/lib64/libx.so".to_owned()));
    let file = machine.directory.path().join("machine/opt/x/libx.so");
    std::fs::set_permissions(file, Permissions::from_mode(0o750)).unwrap();
    machine.missing();
}

#[test]
fn only_a_loader_that_may_be_executed_will_do() {
    let odd = "/usr/lib/odd-loader.so";
    let mut machine = Machine::new(&Sample { interpreter: Some(odd), ..Sample::program(&[]) });
    assert_eq!(machine.missing().details["dependency"], odd);
    machine.write(&odd[1..], &Sample::default());
    assert!(machine.missing().message.contains("may not be executed"));
    machine.policy.profile = Profile::Program;
    assert_eq!(machine.resolve().unwrap(), [odd]);
}

#[test]
fn a_static_program_needs_nothing_and_a_foreign_one_is_refused() {
    let machine = Machine::new(&Sample { interpreter: None, ..Sample::program(&[]) });
    assert_eq!(machine.resolve().unwrap(), [""; 0]);
    machine.tree("bin/a", &Sample { machine: elf::abi::EM_RISCV, ..Sample::program(&[]) });
    let failure = machine.resolve().unwrap_err();
    assert_eq!(failure.code, Code::EntryInvalid);
    assert!(failure.details["found"].as_str().unwrap().contains("RISC"), "{failure}");
    machine.file("tree/bin/a", b"#!/bin/sh\n");
    assert_eq!(machine.resolve().unwrap_err().code, Code::EntryInvalid);
    machine.tree("bin/a", &Sample { interpreter: None, ..Sample::program(&[]) });
    machine.resolve().unwrap();
    let entry = machine.directory.path().join("tree/bin/a");
    std::fs::set_permissions(&entry, Permissions::from_mode(0o644)).unwrap();
    assert!(machine.resolve().unwrap_err().message.contains("run bit"));
    std::fs::remove_file(entry).unwrap();
    assert_eq!(machine.resolve().unwrap_err().code, Code::NotFound);
}

#[test]
fn a_chain_without_end_has_one() {
    let machine = Machine::new(&Sample::program(&["lib0.so"]));
    for number in 0..=MAX_OBJECTS {
        let next: &'static str = Box::leak(format!("lib{}.so", number + 1).into_boxed_str());
        machine.write(&format!("usr/lib/lib{number}.so"), &Sample::library(&[next]));
    }
    let failure = machine.resolve().unwrap_err();
    assert_eq!(
        (failure.code, &failure.details["resource"]),
        (Code::ResourceExhausted, &json!("libraries"))
    );
}
