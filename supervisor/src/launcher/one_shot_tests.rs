use std::fs;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::time::Instant;

use bulkhead_sandbox::{Cause, Status};
use nix::unistd::geteuid;
use tempfile::TempDir;

use super::*;

const UID: u32 = 1_900_000_777;
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory of the uid that the program runs as.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    if geteuid().is_root() {
        chown(directory.path(), Some(UID), Some(UID)).unwrap();
    }
    directory
}

/// A shell that may not fork: what it does it does by itself.
fn shell(script: &str, directory: &TempDir) -> Task {
    let identity = if geteuid().is_root() {
        Identity::Leased { uid: UID, gid: UID }
    } else {
        Identity::Invoker
    };
    Task {
        name: "_test".to_owned(),
        identity,
        program: "/bin/sh".into(),
        arguments: ["sh", "-c", script].map(str::to_owned).to_vec(),
        stdin: File::open("/dev/null").unwrap().into(),
        stdout: Stdout::Kept,
        directory: directory.path().to_owned(),
        writable: true,
        file_size: 1 << 20,
        strictness: Strictness::BestEffort,
        within: PATIENCE,
    }
}

fn file(content: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

fn run(task: Task) -> Ended {
    OneShot::run(None, task).unwrap()
}

#[test]
fn it_reads_what_it_is_given_and_answers() {
    let directory = directory();
    let script = "read x; echo \"$x\" >written && echo \"$x, $PWD, $$\"";
    let ended = run(Task { stdin: file("a word\n").into(), ..shell(script, &directory) });
    assert_eq!(ended.exit.status, Status::Exited(0));
    assert!(ended.late.is_none());
    let output = String::from_utf8(ended.output).unwrap();
    assert!(output.starts_with("a word, "), "{output}");
    let written = directory.path().join("written");
    assert_eq!(fs::read_to_string(&written).unwrap(), "a word\n");
    if geteuid().is_root() {
        assert_eq!(fs::metadata(&written).unwrap().uid(), UID);
    }
}

#[test]
fn it_sees_nothing_else_and_writes_nowhere_else() {
    let directory = directory();
    let secret = tempfile::tempdir().unwrap();
    let secret = secret.path().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    // The control: here it can read and write.
    let script = format!(
        "echo x >here && read y <here && echo control; read y <{}; echo \"read $?\"",
        secret.display()
    );
    let ended = run(shell(&script, &directory));
    let output = String::from_utf8(ended.output).unwrap();
    assert!(output.starts_with("control\nread ") && output != "control\nread 0\n", "{output}");
    let ended = run(shell("echo x >/dev/shm/x || echo x >/tmp/x || echo x >/usr/x", &directory));
    assert!(matches!(ended.exit.status, Status::Exited(1..)), "{:?}", ended.exit.status);
}

#[test]
fn a_directory_that_it_may_only_read_stays_as_it_is_and_its_output_can_be_a_file() {
    let directory = directory();
    fs::write(directory.path().join("kept"), "kept\n").unwrap();
    let task = |script: &str, writable| {
        let mut output = tempfile::tempfile().unwrap();
        let stdout = Stdout::File(output.try_clone().unwrap().into());
        let ended = run(Task { stdout, writable, ..shell(script, &directory) });
        let mut text = String::new();
        output.rewind().unwrap();
        output.read_to_string(&mut text).unwrap();
        (ended, text)
    };
    let script = "read x <kept; echo $x; echo y >new && echo written";
    let (ended, text) = task(script, false);
    assert_eq!((text.as_str(), ended.output.len()), ("kept\n", 0));
    assert_ne!(ended.exit.status, Status::Exited(0));
    assert!(!directory.path().join("new").exists());
    // The control.
    let (_, text) = task(script, true);
    assert_eq!(text, "kept\nwritten\n");
}

#[test]
fn it_is_killed_at_its_deadline() {
    let directory = directory();
    let within = Duration::from_millis(300);
    let begin = Instant::now();
    let ended = run(Task { within, ..shell("while :; do :; done", &directory) });
    assert!((within..PATIENCE).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!(ended.late, Some(within));
    assert_eq!(ended.exit.cause, Cause::Killed);
}

#[test]
fn who_says_too_much_is_cut_off() {
    let directory = directory();
    let script = "while echo 0123456789012345678901234567890123456789; do :; done";
    let ended = run(shell(script, &directory));
    assert!((1..=MAX_OUTPUT).contains(&ended.output.len()), "{}", ended.output.len());
    assert_ne!(ended.exit.status, Status::Exited(0));
    assert!(ended.late.is_none());
}

#[test]
fn a_file_has_a_largest_size() {
    let directory = directory();
    let script = "i=0; while [ $i -lt 100 ]; do echo 0123456789; i=$((i+1)); done >large";
    let ended = run(Task { file_size: 500, ..shell(script, &directory) });
    assert_eq!(fs::metadata(directory.path().join("large")).unwrap().len(), 500);
    assert_ne!(ended.exit.status, Status::Exited(0));
    // The control.
    let ended = run(Task { file_size: 5000, ..shell(script, &directory) });
    assert_eq!(ended.exit.status, Status::Exited(0));
    assert_eq!(fs::metadata(directory.path().join("large")).unwrap().len(), 1100);
}
