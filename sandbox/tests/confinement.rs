//! What a compartment keeps out and in. Every denial has its positive control: the same attempt where
//! it is allowed.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

mod lane;
mod run;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use bulkhead_sandbox::{Cause, Identity, Layer, Mount, Network, Status};
use run::{Command, data, program};

/// The same script outside, as root or whoever we are.
fn outside(script: &str) -> std::process::Output {
    std::process::Command::new("/bin/sh").args(["-c", script]).output().unwrap()
}

#[test]
fn system_directories_can_be_read_and_not_written() {
    let finished = Command::shell(
        program(),
        "test -r /usr/bin/env && echo readable; for d in /usr /etc /bin / /dev; do touch $d/x 2>/dev/null && echo wrote $d; done; true",
    )
    .run();
    assert_eq!(finished.stdout, "readable\n", "stderr: {}", finished.stderr);
}

#[test]
fn tmp_is_private_writable_and_bounded() {
    let ours = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    let mut policy = program();
    policy.filesystem.tmp_bytes = 1 << 20;
    let script = format!(
        "test -e {} && echo seen; echo a > /tmp/a && echo wrote; dd if=/dev/zero of=/tmp/b bs=64k count=8 2>/dev/null && echo half; dd if=/dev/zero of=/tmp/c bs=64k count=64 2>/dev/null || echo full",
        ours.path().display()
    );
    let finished = Command::shell(policy, &script).run();
    assert_eq!(finished.stdout, "wrote\nhalf\nfull\n", "stderr: {}", finished.stderr);
}

#[test]
fn nothing_on_a_writable_mount_can_be_executed() {
    let identity = lane::identity();
    let directory = data(identity);
    let script = "cp /bin/true /data/true && chmod 755 /data/true && echo copied; /data/true && echo ran; cp /bin/true /tmp/true && /tmp/true && echo ran";
    let mut policy = program();
    policy.filesystem.mounts.push(Mount::read_write(directory.path(), "/data"));
    let mut command = Command::shell(policy, script);
    command.identity = identity;
    let finished = command.run();
    assert_eq!(finished.stdout, "copied\n", "stderr: {}", finished.stderr);
    // The very file runs outside.
    assert!(std::process::Command::new(directory.path().join("true")).status().unwrap().success());
}

#[test]
fn what_can_be_written_is_not_executed_by_another_name() {
    let identity = lane::identity();
    let directory = data(identity);
    let at = directory.path().canonicalize().unwrap();
    fs::create_dir(at.join("out")).unwrap();
    fs::set_permissions(at.join("out"), fs::Permissions::from_mode(0o777)).unwrap();
    for copy in ["true", "out/true"] {
        fs::copy("/bin/true", at.join(copy)).unwrap();
    }
    let run = |mounts: &[Mount], script: &str| {
        let mut policy = program();
        policy.filesystem.mounts.extend_from_slice(mounts);
        let mut command = Command::shell(policy, script);
        command.identity = identity;
        command.run().stdout
    };
    let read = Mount::read_only(&at, "/r");
    let script =
        "for it in /r/true /w/true /r/out/true; do test -e $it && $it && echo $it; done; true";
    // Where nothing can be written all of it runs.
    assert_eq!(run(std::slice::from_ref(&read), script), "/r/true\n/r/out/true\n");
    assert_eq!(run(&[Mount::read_write(&at, "/w"), read.clone()], script), "");
    assert_eq!(run(&[Mount::read_write(at.join("out"), "/w"), read.clone()], script), "");
    // A part that is writable in its own place hides what would be executable there, and only that.
    let part = Mount::read_write(at.join("out"), "/r/out");
    assert_eq!(run(&[read, part], script), "/r/true\n");
}

#[test]
fn data_is_writable_and_the_data_of_others_is_not_there() {
    let identity = lane::identity();
    let (mine, others) = (data(identity), data(identity));
    fs::write(others.path().join("secret"), "theirs").unwrap();
    let mut policy = program();
    policy.filesystem.mounts.push(Mount::read_write(mine.path(), "/data"));
    let script = format!(
        "echo mine > /data/file && cat /data/file; mkdir /data/d && mv /data/file /data/d/ && rm -r /data/d && echo moved; cat {0}/secret; ls {0}; ls /var; ls /home; ls /root; true",
        others.path().display()
    );
    let mut command = Command::shell(policy, &script);
    command.identity = identity;
    let finished = command.run();
    assert_eq!(finished.stdout, "mine\nmoved\n", "stderr: {}", finished.stderr);
    assert!(outside(&format!("cat {}/secret", others.path().display())).status.success());
}

#[test]
fn a_source_beneath_a_closed_directory_can_be_mounted() {
    if !lane::root("a_source_beneath_a_closed_directory_can_be_mounted") {
        return;
    }
    let identity = lane::identity();
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let own = closed.path().join("own");
    fs::create_dir(&own).unwrap();
    let Identity::Leased { uid, gid } = identity else { panic!("root leases") };
    std::os::unix::fs::chown(&own, Some(uid), Some(gid)).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
    let mut policy = program();
    policy.filesystem.mounts.push(Mount::read_write(&own, "/data"));
    let mut command = Command::shell(policy, "echo in > /data/x && cat /data/x");
    command.identity = identity;
    let finished = command.run();
    assert_eq!(finished.stdout, "in\n", "stderr: {}", finished.stderr);
    assert_eq!(fs::read_to_string(own.join("x")).unwrap(), "in\n");
}

#[test]
fn a_source_that_has_become_a_link_is_refused() {
    let identity = lane::identity();
    let (mine, others) = (data(identity), data(identity));
    fs::create_dir(mine.path().join("inner")).unwrap();
    let start = || {
        let mut policy = program();
        policy.filesystem.mounts.push(Mount::read_only(mine.path().join("inner"), "/data"));
        let mut command = Command::shell(policy, "ls / | grep data");
        command.identity = identity;
        command
    };
    assert_eq!(start().run().stdout, "data\n");
    // As somebody who may write there does after the policy was judged.
    fs::rename(mine.path().join("inner"), mine.path().join("away")).unwrap();
    std::os::unix::fs::symlink(others.path(), mine.path().join("inner")).unwrap();
    let Err(error) = start().start() else { panic!("started") };
    let text = error.to_string();
    assert!(text.contains("inner") && text.contains("symbolic link"), "{text}");
}

#[test]
fn it_is_its_own_uid_without_capability_or_group() {
    let mut policy = program();
    policy.filesystem.proc = true;
    let script =
        "id -u; id -G; grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/self/status";
    let finished = Command::shell(policy, script).run();
    let identity = lane::identity();
    if !finished.enforcement.layer(Layer::Proc).unwrap().enforced {
        return lane::skip("it_is_its_own_uid_without_capability_or_group", "no private /proc");
    }
    let zero = "0000000000000000";
    let status = format!(
        "CapInh:\t{zero}\nCapPrm:\t{zero}\nCapEff:\t{zero}\nCapBnd:\t{zero}\nCapAmb:\t{zero}\nNoNewPrivs:\t1\nSeccomp:\t2\n"
    );
    assert!(finished.stdout.ends_with(&status), "{}", finished.stdout);
    if let Identity::Leased { uid, gid } = identity {
        assert!(finished.stdout.starts_with(&format!("{uid}\n{gid}\n")), "{}", finished.stdout);
        assert_eq!(finished.enforcement.layer(Layer::Groups).unwrap().measured, "none");
    }
}

#[test]
fn there_is_no_proc_unless_asked_for() {
    let finished = Command::shell(program(), "ls /proc /sys").run();
    assert_ne!(finished.exit.status, Status::Exited(0));
    assert_eq!(finished.stdout, "");
    assert!(outside("ls /proc/self").status.success());
}

#[test]
fn processes_of_others_are_out_of_sight_and_reach() {
    let mut policy = program();
    policy.filesystem.proc = true;
    let script = format!(
        "ls /proc | grep -E '^[0-9]+$' | sort -n | head -n 2 | tr '\\n' ' '; kill -0 {0} && echo reached; true",
        std::process::id()
    );
    let finished = Command::shell(policy, &script).run();
    if !finished.enforcement.layer(Layer::Proc).unwrap().enforced {
        return lane::skip("processes_of_others_are_out_of_sight_and_reach", "no private /proc");
    }
    assert_eq!(finished.stdout, "1 2 ", "stderr: {}", finished.stderr);
    assert!(outside(&format!("kill -0 {}", std::process::id())).status.success());
}

#[test]
fn the_oom_score_cannot_be_lowered() {
    let mut policy = program();
    policy.filesystem.proc = true;
    let script = "cat /proc/self/oom_score_adj; echo -1000 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj";
    let finished = Command::shell(policy, script).run();
    if !finished.enforcement.layer(Layer::Proc).unwrap().enforced {
        return lane::skip("the_oom_score_cannot_be_lowered", "no private /proc");
    }
    assert_eq!(finished.stdout, "500\n500\n", "stderr: {}", finished.stderr);
    // Outside everybody may raise it, and root lower it, but that of a container may not.
    let set = |score: &str| {
        let script =
            format!("echo {score} > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj");
        String::from_utf8(outside(&script).stdout).unwrap()
    };
    assert_eq!(set("600"), "600\n");
    if lane::promised() && nix::unistd::geteuid().is_root() {
        assert_eq!(set("-1000"), "-1000\n");
    }
}

#[test]
fn without_a_grant_there_is_no_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // bash speaks TCP by itself.
    let script = format!("exec 9<>/dev/tcp/127.0.0.1/{port} && echo connected");
    let command = |policy| Command::new(policy, "/bin/bash", &["-c", &script]);
    let finished = command(program()).run();
    assert_eq!(finished.stdout, "", "stderr: {}", finished.stderr);
    // The control, in a compartment that has the machine's network.
    let mut policy = program();
    policy.network = Network::Host;
    let finished = command(policy).run();
    assert_eq!(finished.stdout, "connected\n", "stderr: {}", finished.stderr);
}

#[test]
fn only_granted_ports_can_be_connected() {
    if !lane::require("only_granted_ports_can_be_connected", Layer::LandlockNetwork) {
        return;
    }
    let (granted, other) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let mut policy = program();
    policy.network = Network::Ports { connect: vec![port(&granted)], bind: vec![] };
    let script = format!(
        "(exec 9<>/dev/tcp/127.0.0.1/{}) && echo granted; (exec 9<>/dev/tcp/127.0.0.1/{}) && echo other; true",
        port(&granted),
        port(&other)
    );
    let finished = Command::new(policy, "/bin/bash", &["-c", &script]).run();
    assert_eq!(finished.stdout, "granted\n", "stderr: {}", finished.stderr);
}

#[test]
fn file_size_and_descriptors_are_bounded() {
    let identity = lane::identity();
    let directory = data(identity);
    let run = |nofile, file_size| {
        let mut policy = program();
        policy.limits.file_size = Some(file_size);
        policy.limits.nofile = nofile;
        policy.filesystem.mounts.push(Mount::read_write(directory.path(), "/data"));
        let mut command = Command::shell(
            policy,
            "ulimit -n; ulimit -c; ulimit -n 128 2>/dev/null && echo set; exec dd if=/dev/zero of=/data/big bs=64k count=32 2>/dev/null",
        );
        command.identity = identity;
        let finished = command.run();
        let size = fs::metadata(directory.path().join("big")).unwrap().len();
        (finished.stdout, finished.exit.cause, size)
    };
    let (mebibyte, wide) = (1 << 20, 4 << 20);
    assert_eq!(run(256, wide), ("256\n0\nset\n".to_owned(), Cause::Code(0), 2 * mebibyte));
    let held = Cause::FileSize { limit: Some(mebibyte) };
    assert_eq!(run(64, mebibyte), ("64\n0\n".to_owned(), held, mebibyte));
}

#[test]
fn the_host_name_is_the_compartments() {
    let finished = Command::new(program(), "/bin/uname", &["-n"]).run();
    assert_eq!(finished.stdout, "test-the_host_name_is_the_compartments\n");
    assert_ne!(String::from_utf8(outside("uname -n").stdout).unwrap(), finished.stdout);
}
