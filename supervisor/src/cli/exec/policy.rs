//! Flags and policy file to one policy.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bulkhead_sandbox::seccomp::Profile;
use bulkhead_sandbox::{CpuMax, Limits, Mount, Network, Policy, Strictness};
use nix::fcntl::OFlag;
use serde_json::Value;

use crate::cli::args::Exec;
use crate::cli::problem::Problem;
use crate::failure::Code;
use crate::manifest::CpuShare;

/// A policy file is at most this long, in bytes.
const MAX_POLICY: u64 = 256 << 10;

/// What a command gets without flags: the system directories, an empty `/tmp`, no network, a bound
/// on processes but none on memory and CPU, and every layer that this machine has.
fn default() -> Policy {
    Policy {
        profile: Profile::Program,
        limits: Limits { memory: None, pids: Some(512), ..Limits::default() },
        strictness: Strictness::BestEffort,
        ..Policy::default()
    }
}

pub(super) fn of(arguments: &Exec) -> Result<Policy, Problem> {
    let mut policy = match &arguments.policy {
        Some(path) => read(path)?,
        None => default(),
    };
    let limits = &mut policy.limits;
    if let Some(memory) = arguments.memory {
        limits.memory = Some(memory.bytes());
        // Pages of /tmp are memory: a larger one could not be filled.
        policy.filesystem.tmp_bytes = policy.filesystem.tmp_bytes.min(memory.bytes());
    }
    if let Some(cpu) = arguments.cpu {
        limits.cpu = Some(CpuMax { quota_us: cpu.quota_us(), period_us: CpuShare::PERIOD_US });
    }
    if let Some(pids) = arguments.pids {
        limits.pids = Some(pids);
    }
    if let Some(nofile) = arguments.nofile {
        limits.nofile = nofile;
    }
    if let Some(storage) = arguments.storage {
        limits.file_size = Some(storage.bytes());
        policy.filesystem.tmp_bytes = storage.bytes();
    }
    for path in &arguments.ro {
        let path = existing(path, "--ro")?;
        policy.filesystem.show(Mount::read_only(&path, &path));
    }
    for path in &arguments.rw {
        let path = existing(path, "--rw")?;
        policy.filesystem.show(Mount::read_write(&path, &path));
    }
    if !arguments.connect.is_empty() || !arguments.bind.is_empty() {
        policy.network = with_ports(policy.network, &arguments.connect, &arguments.bind);
    }
    policy.allow_syscalls.extend(arguments.allow.iter().cloned());
    if arguments.strictness.strict {
        policy.strictness = Strictness::Strict;
    } else if arguments.strictness.best_effort {
        policy.strictness = Strictness::BestEffort;
    }
    Ok(policy)
}

fn with_ports(network: Network, more_connect: &[u16], more_bind: &[u16]) -> Network {
    let (mut connect, mut bind) = match network {
        Network::Ports { connect, bind } => (connect, bind),
        // A port that is named narrows the host's network to it.
        Network::None | Network::Host => (Vec::new(), Vec::new()),
    };
    connect.extend_from_slice(more_connect);
    bind.extend_from_slice(more_bind);
    Network::Ports { connect, bind }
}

/// The real path, so that a name that is a link is visible as what it names.
fn existing(path: &Path, flag: &str) -> Result<PathBuf, Problem> {
    let shown = path.display();
    let real = path.canonicalize().map_err(|error| {
        let why = format!("{flag} {shown}: {error}; name a file or directory that exists");
        Problem::new(Code::NotFound, why)
    })?;
    if real == Path::new("/") {
        return Err(Problem::usage(format!(
            "{flag} {shown}: the whole machine cannot be made visible; name the directories that are needed"
        )));
    }
    Ok(real)
}

/// A policy file says what differs from the default of `exec`.
fn read(path: &Path) -> Result<Policy, Problem> {
    let shown = path.display();
    let refused = |error: io::Error| {
        let code = match error.kind() {
            ErrorKind::NotFound => Code::NotFound,
            _ => Code::InvalidRequest,
        };
        Problem::new(code, format!("cannot read the policy {shown}: {error}"))
            .with("path", shown.to_string())
    };
    let unfit = |why: String| {
        Problem::new(Code::InvalidRequest, format!("cannot read the policy {shown}: {why}"))
            .with("path", shown.to_string())
    };
    // Not to wait for the writer of a FIFO. O_CLOEXEC is the library's own.
    let file = File::options()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(refused)?;
    if !file.metadata().map_err(refused)?.is_file() {
        return Err(unfit("it is not a regular file; name one".to_owned()));
    }
    let mut text = String::new();
    file.take(MAX_POLICY + 1).read_to_string(&mut text).map_err(refused)?;
    if text.len() as u64 > MAX_POLICY {
        return Err(unfit(format!("it is longer than {MAX_POLICY} bytes; shorten it")));
    }
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let mut policy =
        parse(&text, is_json).map_err(|why| Problem::usage(format!("policy {shown}: {why}")))?;
    for mount in &mut policy.filesystem.mounts {
        // As with the flags. One that is not there is named when the compartment is made.
        if mount.source.is_absolute()
            && let Ok(real) = mount.source.canonicalize()
        {
            mount.source = real;
        }
    }
    Ok(policy)
}

fn parse(text: &str, is_json: bool) -> Result<Policy, String> {
    // Once for the message, which has the place; once more to lay it over the default.
    let given: Value = if is_json {
        serde_json::from_str::<Policy>(text).map_err(|error| error.to_string())?;
        serde_json::from_str(text).map_err(|error| error.to_string())?
    } else {
        toml::from_str::<Policy>(text).map_err(|error| error.to_string())?;
        toml::from_str(text).map_err(|error| error.to_string())?
    };
    let mut whole = serde_json::to_value(default()).map_err(|error| error.to_string())?;
    lay_over(&mut whole, given);
    serde_json::from_value(whole).map_err(|error| error.to_string())
}

/// Objects are joined, anything else is replaced. `network` is an enumeration, not an object.
fn lay_over(base: &mut Value, given: Value) {
    match (base, given) {
        (Value::Object(base), Value::Object(given)) => {
            for (key, value) in given {
                match base.get_mut(&key) {
                    Some(under) if key != "network" => lay_over(under, value),
                    _ => {
                        base.insert(key, value);
                    }
                }
            }
        }
        (base, given) => *base = given,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{Arguments, Verb};

    fn policy(flags: &str) -> Result<Policy, Problem> {
        let line = format!("bulkhead exec {flags} true");
        match Arguments::try_parse_from(line.split_whitespace()).unwrap().verb {
            Verb::Exec(arguments) => of(&arguments),
            _ => unreachable!("the line says exec"),
        }
    }

    #[test]
    fn each_flag_reaches_the_policy() {
        let policy = policy(
            "--memory 64M --cpu 20% --pids 32 --nofile 99 --storage 1M --ro /usr/share --rw /var/tmp \
             --connect 443 --bind 8080 --allow getrusage --strict",
        )
        .unwrap();
        assert_eq!(policy.limits.memory, Some(64 << 20));
        assert_eq!(policy.limits.cpu, Some(CpuMax::percent(20)));
        assert_eq!(policy.limits.pids, Some(32));
        assert_eq!(policy.limits.nofile, 99);
        assert_eq!(policy.limits.file_size, Some(1 << 20));
        assert_eq!(policy.filesystem.tmp_bytes, 1 << 20);
        assert_eq!(policy.filesystem.mounts.len(), 2);
        assert!(policy.filesystem.places);
        assert_eq!(policy.network, Network::Ports { connect: vec![443], bind: vec![8080] });
        assert_eq!(policy.allow_syscalls, ["getrusage"]);
        assert_eq!(policy.strictness, Strictness::Strict);
        assert_eq!(policy.profile, Profile::Program);
    }

    #[test]
    fn a_file_lies_over_the_default_and_flags_over_the_file() {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        std::fs::write(&file, "strictness = 'strict'\n[limits]\nmemory = 1048576\nnofile = 64\n")
            .unwrap();
        let policy = policy(&format!("--policy {} --nofile 128", file.path().display())).unwrap();
        assert_eq!(policy.profile, Profile::Program);
        assert_eq!(policy.limits.memory, Some(1 << 20));
        assert_eq!(policy.limits.pids, Some(512));
        assert_eq!(policy.limits.nofile, 128);
        assert_eq!(policy.strictness, Strictness::Strict);
    }

    #[test]
    fn the_policy_of_a_report_is_a_policy_file() {
        let mut given = default();
        given.network = Network::Ports { connect: vec![1], bind: vec![] };
        given.limits.memory = Some(7);
        let json = serde_json::to_string(&given).unwrap();
        assert_eq!(parse(&json, true).unwrap(), given);
    }

    #[test]
    fn a_bad_policy_file_names_place_and_key() {
        let error = parse("[limits]\nmemroy = 1", false).unwrap_err();
        assert!(error.contains("line 2") && error.contains("memroy"), "{error}");
        let error = parse("{\"limits\": {\"pids\": -1}}", true).unwrap_err();
        assert!(error.contains("line 1"), "{error}");
        let missing = policy("--policy /nonexistent/p.toml").unwrap_err();
        assert_eq!((missing.code.as_str(), missing.exit_code), ("NOT_FOUND", 3));
    }

    #[test]
    fn a_policy_that_would_not_end_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.toml");
        let at = |path: &Path| policy(&format!("--policy {}", path.display()));
        let refused = |path: &Path, why: &str| {
            let problem = at(path).unwrap_err();
            assert_eq!(problem.code, "INVALID_REQUEST");
            assert_eq!(problem.details["path"], path.display().to_string());
            assert!(problem.message.contains(why), "{}", problem.message);
        };
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        refused(&path, "not a regular file");
        refused(Path::new("/dev/zero"), "not a regular file");
        refused(directory.path(), "not a regular file");
        std::fs::remove_file(&path).unwrap();
        // The control: what is just short enough is read.
        let longest = usize::try_from(MAX_POLICY).unwrap();
        std::fs::write(&path, "#".repeat(longest)).unwrap();
        assert_eq!(at(&path).unwrap(), default());
        std::fs::write(&path, "#".repeat(longest + 1)).unwrap();
        refused(&path, "longer than 262144 bytes");
    }

    #[test]
    fn paths_must_exist_and_cannot_be_the_root() {
        assert!(policy("--ro /nonexistent").unwrap_err().message.contains("--ro /nonexistent"));
        assert!(policy("--rw /").unwrap_err().message.contains("whole machine"));
    }
}
