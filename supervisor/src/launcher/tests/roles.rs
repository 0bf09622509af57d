//! What the test binary is when a test starts it in another role.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use bulkhead_sandbox::descriptors::{recv_with_fds, send_with_fds};
use bulkhead_sandbox::unprivileged;

use crate::config::Config;

/// The arguments that start a role; the role finds `argument` as the last.
pub(super) fn arguments(role: &str, argument: &Path) -> Vec<String> {
    let name = format!("launcher::tests::roles::{role}");
    let options = ["--exact", "--ignored", "--nocapture", "--test-threads=1"];
    let mut arguments = vec![name];
    arguments.extend(options.map(str::to_owned));
    arguments.push(argument.to_str().unwrap().to_owned());
    arguments
}

fn argument() -> PathBuf {
    std::env::args_os().next_back().unwrap().into()
}

/// `bulkhead serve` with the configuration in the directory that is its argument.
#[test]
#[ignore = "a role that other tests start"]
fn launcher() {
    let directory = argument();
    if !directory.is_absolute() {
        return;
    }
    let mut config = Config::load(Some(&directory.join("bulkhead.toml"))).unwrap();
    let mut command = vec!["/proc/self/exe".into()];
    command
        .extend(arguments("supervisor", &directory.join("test.sock")).into_iter().map(Into::into));
    config.supervisor_command = Some(command);
    let code = crate::launcher::serve(&config);
    let failed = format!("{code:?}") != format!("{:?}", std::process::ExitCode::SUCCESS);
    std::process::exit(i32::from(failed));
}

/// Hands its link to the test, and lives until the test closes the connection or kills it.
#[test]
#[ignore = "a role that other tests start"]
fn supervisor() {
    let socket = argument();
    if !socket.is_absolute() {
        return;
    }
    let link = unprivileged::given().unwrap();
    let mut test = UnixStream::connect(socket).unwrap();
    let pid = std::process::id().to_ne_bytes();
    send_with_fds(test.as_fd(), &pid, &[link.as_fd()]).unwrap();
    drop(link);
    let _ = test.read(&mut [0]);
}

/// Takes session after session and echoes each.
#[test]
#[ignore = "a role that other tests start"]
fn plugin() {
    let Ok(bootstrap) = unprivileged::given() else { return };
    while let Ok(mut packet) = recv_with_fds(bootstrap.as_fd(), 1, 1) {
        let mut session = UnixStream::from(packet.descriptors.pop().unwrap());
        std::thread::spawn(move || {
            let mut byte = [0];
            while session.read_exact(&mut byte).is_ok() && session.write_all(&byte).is_ok() {}
        });
    }
}
