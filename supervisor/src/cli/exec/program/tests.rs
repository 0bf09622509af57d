use std::fs;

use super::*;

fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap();
    (directory, path)
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn find_in(directory: &Path, command: &str) -> Result<Found, Problem> {
    find(command.as_ref(), Some("/usr/bin:/bin".as_ref()), directory, &Filesystem::default())
}

#[test]
fn a_system_program_needs_no_mount() {
    let found = find_in(Path::new("/"), "env").unwrap();
    assert_eq!(found, Found { path: "/usr/bin/env".into(), mounts: vec![] });
}

#[test]
fn a_program_elsewhere_brings_its_own_file() {
    let (_guard, here) = directory();
    write(&here.join("tool"), "\u{7f}ELF", 0o755);
    let own = Mount::read_only(here.join("tool"), here.join("tool"));
    let found = find_in(&here, "./tool").unwrap();
    assert_eq!(
        found,
        Found { path: here.join("./tool").canonicalize().unwrap(), mounts: vec![own] }
    );
    // A link outside to a program of the system is the program.
    std::os::unix::fs::symlink("/usr/bin/env", here.join("link")).unwrap();
    let found = find_in(&here, "./link").unwrap();
    assert!(is_system(&found.path), "{found:?}");
}

#[test]
fn what_is_granted_read_only_is_executed_where_it_is() {
    let (_guard, here) = directory();
    write(&here.join("tool"), "\u{7f}ELF", 0o755);
    let mut filesystem = Filesystem::default();
    filesystem.mounts.push(Mount::read_only(&here, &here));
    let command = here.join("tool");
    let found = find(command.as_os_str(), None, Path::new("/"), &filesystem).unwrap();
    assert_eq!(found.mounts, []);
    // Writable is not executable: the file itself is shown read-only above it.
    filesystem.mounts.push(Mount::read_write(&here, &here));
    let found = find(command.as_os_str(), None, Path::new("/"), &filesystem).unwrap();
    assert_eq!(found.mounts.len(), 1);
}

#[test]
fn a_script_brings_its_interpreter() {
    let (_guard, here) = directory();
    write(&here.join("shell"), "\u{7f}ELF", 0o755);
    write(&here.join("own"), &format!("#! {} -x\n", here.join("shell").display()), 0o755);
    write(&here.join("system"), "#!/bin/sh\n", 0o755);
    assert_eq!(find_in(&here, "./own").unwrap().mounts.len(), 2);
    assert_eq!(find_in(&here, "./system").unwrap().mounts.len(), 1);
    for (name, line) in [("gone", "#!/nonexistent/sh\n"), ("relative", "#!sh\n"), ("empty", "#!\n")]
    {
        write(&here.join(name), line, 0o755);
        let problem = find_in(&here, &format!("./{name}")).unwrap_err();
        assert_eq!(problem.exit_code, 126, "{name}: {problem:?}");
        assert!(problem.message.contains("interpreter"), "{problem:?}");
    }
}

#[test]
fn what_cannot_be_executed_is_told_from_what_is_not_there() {
    let (_guard, here) = directory();
    write(&here.join("plain"), "text", 0o644);
    for (command, code) in [
        ("./plain", 126),
        ("./", 126),
        ("/etc", 126),
        ("./absent", 127),
        ("no-such-command-anywhere", 127),
        ("", 127),
        ("/dev/null", 126),
    ] {
        let problem = find_in(&here, command).unwrap_err();
        assert_eq!(problem.exit_code, code, "{command}: {problem:?}");
    }
}
