//! What the test binary is when a test starts it in another role.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    let mut unpack = vec!["bulkhead".to_owned()];
    unpack.extend(arguments("unpack", Path::new("/")));
    config.unpack_arguments = Some(unpack);
    let within = std::fs::read_to_string(directory.join("unpack-within"));
    config.unpack_within = within.ok().map(|text| Duration::from_millis(text.parse().unwrap()));
    let code = crate::launcher::serve(&config, None);
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

/// `bulkhead unpack`, or what it could be if a package had taken it over: the first bytes say what.
#[test]
#[ignore = "a role that other tests start"]
fn unpack() {
    if argument() != Path::new("/") {
        return;
    }
    let package = std::fs::File::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let mut first = [0; 5];
    let _ = package.read_at(&mut first, 0);
    match &first {
        b"hang!" => loop {
            std::thread::park();
        },
        b"talk!" => {
            while std::io::stdout().write_all(&[b'x'; 4096]).is_ok() {}
            std::process::exit(1);
        }
        b"link!" => {
            std::fs::create_dir("bin").unwrap();
            std::fs::write("plugin.toml", "id = 'probe'").unwrap();
            std::os::unix::fs::symlink("/etc/shadow", "bin/probe").unwrap();
            std::process::exit(0);
        }
        b"deep!" => {
            std::fs::write("plugin.toml", "id = 'probe'").unwrap();
            let name = "d".repeat(200);
            for _ in 0..20 {
                std::fs::create_dir(&name).unwrap();
                std::env::set_current_dir(&name).unwrap();
            }
            std::process::exit(0);
        }
        b"none!" => std::process::exit(0),
        b"dead!" => std::process::abort(),
        _ => {
            let code = crate::package::unpack::run();
            let failed = format!("{code:?}") != format!("{:?}", std::process::ExitCode::SUCCESS);
            std::process::exit(i32::from(failed));
        }
    }
}
