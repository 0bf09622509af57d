//! The verbs and their flags.

mod authoring;
mod exec;
mod lifecycle;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueHint};

pub(crate) use authoring::{Dev, Keygen, Learn, New, Pack, ProjectFlags, Sign, Test, Verify};
pub(crate) use exec::Exec;
pub(crate) use lifecycle::{Config, Disable, Enable, Install, Permit, Uninstall, Upgrade, Word};

use super::trust::Trust;
use crate::audit_chain::Head;
use crate::id::PluginId;
use crate::launcher::Learning;
use crate::manifest::{ByteSize, TimeSpan};

/// Runs third-party native plugins, each in a watertight compartment of its own.
///
/// Exit codes: 0 done, 1 refused or failed, 2 usage, 3 not found, 4 denied, 5 timed out. `exec`
/// exits as its command does.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The service's admin socket [default: /run/bulkhead/admin.sock as root, else
    /// $XDG_RUNTIME_DIR/bulkhead/admin.sock]
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) socket: Option<PathBuf>,
    /// Print JSON: the reply on standard output, an error on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Arguments {
    /// Reads the arguments of this program. `BULKHEAD_SOCKET` is not the grammar's: a usage would read
    /// as if `--socket` had to be given.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut read = Self::try_parse_from(words).map_err(with_visible_verbs)?;
        let named = || std::env::var_os("BULKHEAD_SOCKET").filter(|path| !path.is_empty());
        read.global.socket = read.global.socket.or_else(|| named().map(PathBuf::from));
        Ok(read)
    }
}

/// Where the verbs are listed, without those that the service's own processes use.
fn with_visible_verbs(mut error: clap::Error) -> clap::Error {
    if error.get(ContextKind::ValidSubcommand).is_some()
        && error.kind() == ErrorKind::MissingSubcommand
        && let Some(ContextValue::Strings(mut names)) =
            error.insert(ContextKind::ValidSubcommand, ContextValue::None)
    {
        let command = Arguments::command();
        let hidden: Vec<&str> = command
            .get_subcommands()
            .filter(|verb| verb.is_hide_set())
            .map(clap::Command::get_name)
            .collect();
        names.retain(|name| !hidden.contains(&name.as_str()));
        error.insert(ContextKind::ValidSubcommand, ContextValue::Strings(names));
    }
    error
}

const LEARN_EXAMPLES: &str = "\
Examples:
  bulkhead learn                           what plugin.toml would become
  bulkhead learn --write                   and make it so
  bulkhead learn --check                   fail if it asks for too much, or too little
  bulkhead learn --yes                     and give it all that it tries to reach, unasked
  bulkhead learn -- ./tests/acceptance.sh  with the plugin's own tests, which find the
                                           service by BULKHEAD_SOCKET";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run plugins from their directories or packages in the foreground, with nothing to set up
    Run(Run),
    /// Run any command in a compartment
    Exec(Box<Exec>),
    /// Say what this machine enforces, what it lacks, and what to do
    Doctor(Doctor),
    /// Begin a plugin: a project that builds, with a test
    New(New),
    /// Build a plugin, run it in the foreground, and again whenever its sources change
    Dev(Dev),
    /// Build a plugin and check that it behaves: what an installation looks at, each stage of its
    /// life, each method that it provides
    Test(Test),
    /// Run a plugin, watch what it needs, and say what plugin.toml is to ask for
    ///
    /// The plugin is built and run as `bulkhead test` runs it, with its system calls watched instead of
    /// refused; every other layer holds. From what it tried comes the smallest `[sandbox]` and `[network]`, under
    /// which it is then run once more, enforced. Files, ports and hosts that plugin.toml does not grant are
    /// given to no run before they were shown and agreed to. What no run has touched is named, and what was
    /// not run was not learned: give a command after `--` that exercises the plugin.
    #[command(after_long_help = LEARN_EXAMPLES)]
    Learn(Learn),
    /// Make a package of a plugin's directory
    Pack(Pack),
    /// Make a pair of keys to sign packages with
    Keygen(Keygen),
    /// Sign a package
    Sign(Sign),
    /// Verify the signature of a package, and the package
    Verify(Verify),
    /// Install a plugin from a signed package, or from its directory
    Install(Install),
    /// Replace a plugin by another version; what fails is undone
    Upgrade(Upgrade),
    /// Return to the version before
    Rollback(Named),
    /// Start a plugin
    Enable(Enable),
    /// Stop a plugin within its budget
    Disable(Disable),
    /// Remove a plugin
    Uninstall(Uninstall),
    /// List the plugins
    #[command(visible_alias = "list")]
    Ls,
    /// Watch the plugins: what each uses and how it does, as it changes
    Top(Top),
    /// Show a plugin: its compartment as measured, its usage, how it last ended
    Inspect(Named),
    /// Call a method of a plugin
    Call(Call),
    /// Show what a plugin does by the clock and what became of it, or run some of it now
    Schedules(Schedules),
    /// Show what a plugin used in the past
    Usage(Usage),
    /// Show what happened, and with -f what happens
    Events(Events),
    /// Show who did what, or check that this was not changed
    Audit(Audit),
    /// Print the metrics for Prometheus, in its text format
    Metrics,
    /// Show what a plugin wrote
    Logs(Logs),
    /// Show a plugin's configuration, or replace it
    Config(Config),
    /// Show what a plugin is permitted, of what it asks for
    Permissions(Named),
    /// Permit a plugin what it asks for: a permission at once, a place from its next start on
    Grant(Permit),
    /// Take from a plugin what it is permitted: a permission at once, a place from its next start on
    Revoke(Permit),
    /// Show the state that a plugin keeps
    State(Named),
    /// Say whose signatures count: which keys may sign which plugins
    #[command(subcommand)]
    Trust(Trust),
    /// List what uninstalled plugins have left behind, or remove some of it
    Archives(Archives),
    /// Give every uid of plugins a hard limit on the file system of the state; once, as root
    QuotaInit(QuotaInit),
    /// Run the service; systemd does this
    Serve(Serve),
    /// Print the completion script of a shell
    Completion { shell: clap_complete::Shell },
    /// Print the manual page (roff): `bulkhead man | man -l -`
    Man,
    /// The unprivileged half of the service; the launcher starts it
    #[command(hide = true)]
    Supervise,
    /// The places where a test can hold an operation
    #[cfg(debug_assertions)]
    #[command(hide = true)]
    PausePoints,
    /// Opens a package inside a compartment; the launcher starts it
    #[command(hide = true)]
    Unpack,
    /// Writes a plugin's data to an archive; the launcher starts it
    #[command(hide = true)]
    ArchiveData {
        /// Of the archive, in bytes
        limit: u64,
    },
    /// Makes a plugin's data again; the launcher starts it
    #[command(hide = true)]
    RestoreData,
    /// Makes one attack; `doctor --attack` starts it
    #[command(hide = true)]
    Attack,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    pub(crate) id: PluginId,
}

#[derive(Debug, Args)]
pub(crate) struct Archives {
    #[command(subcommand)]
    pub(crate) what: Option<ArchivesVerb>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ArchivesVerb {
    /// List them (the default)
    #[command(visible_alias = "list")]
    Ls,
    /// Remove one, for good
    Rm {
        /// As the list has it
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// How often the service is asked
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    pub(crate) interval: TimeSpan,
    /// With --json: one line for each interval until it is interrupted, instead of one in all
    #[arg(long)]
    pub(crate) follow: bool,
}

/// A pace at which the service has time for others.
fn interval(text: &str) -> Result<TimeSpan, String> {
    let interval: TimeSpan = text.parse().map_err(|error| format!("{error}"))?;
    if !(100..=3_600_000).contains(&interval.millis()) {
        return Err(format!("{interval} is not between 100ms and 1h"));
    }
    Ok(interval)
}

#[derive(Debug, Args)]
pub(crate) struct Call {
    pub(crate) id: PluginId,
    /// For example `book`, or `service/method`
    pub(crate) method: String,
    /// The argument; `-` reads it from standard input [default: null]
    #[arg(value_name = "JSON")]
    pub(crate) argument: Option<String>,
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub(crate) timeout: TimeSpan,
    /// The acting person, for the audit
    #[arg(long, value_name = "WHO")]
    pub(crate) on_behalf_of: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Schedules {
    pub(crate) id: PluginId,
    /// Show the last runs of this one
    pub(crate) name: Option<String>,
    /// Run this one now, and wait until it has ended
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    pub(crate) run: Option<String>,
    /// The acting person, for the audit
    #[arg(long, value_name = "WHO", requires = "run")]
    pub(crate) on_behalf_of: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Usage {
    pub(crate) id: PluginId,
    /// From when on: how long ago, as `90m` or `7d`, or a time (RFC 3339)
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub(crate) since: String,
    /// The time that a row stands for: `1m` or `15m`
    #[arg(long, value_name = "STEP", default_value = "1m")]
    pub(crate) step: String,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Go on with what happens next
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Begin after this sequence number
    #[arg(long, value_name = "N")]
    pub(crate) since: Option<u64>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Audit {
    /// Only what concerns this plugin
    #[arg(long, value_name = "ID")]
    pub(crate) plugin: Option<PluginId>,
    /// Begin after this sequence number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) since: u64,
    #[command(subcommand)]
    pub(crate) check: Option<AuditCheck>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCheck {
    /// Check that no row was changed, removed, added in between or moved
    Verify {
        /// A place that was in the audit once, as an earlier check printed it
        #[arg(long, value_name = "SEQ:HASH")]
        head: Option<Head>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    pub(crate) id: PluginId,
    /// How many of the newest that fit [default: 100; with --since all]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) lines: Option<u32>,
    /// Go on with what it writes next
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// From this time on (RFC 3339), or from so long ago, such as 10m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Until this time, or until so long ago
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    pub(crate) until: Option<String>,
    /// At least this severe: trace, debug, info, warn or error
    #[arg(long, value_name = "LEVEL")]
    pub(crate) level: Option<String>,
    /// Only `stdout` or only `stderr`
    #[arg(long, value_name = "STREAM")]
    pub(crate) stream: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The service's configuration, for where its state lies [default:
    /// /etc/bulkhead/bulkhead.toml]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Make the attacks of an ill-meaning plugin on this machine, outside and inside a compartment, and
    /// say what stops them; safe on a machine that is in use
    #[arg(long)]
    pub(crate) attack: bool,
}

#[derive(Debug, Args)]
pub(crate) struct QuotaInit {
    /// What each plugin may keep at most. Opening a package takes what its files take, of the same
    /// limit
    #[arg(long, value_name = "SIZE", default_value = "2G", value_parser = quota)]
    pub(crate) limit: ByteSize,
    /// How many files and directories [default: one for 4 KiB of the limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(16..))]
    pub(crate) files: Option<u64>,
    /// Take the limits away
    #[arg(long, conflicts_with_all = ["limit", "files"])]
    pub(crate) remove: bool,
    /// Only look, and say what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// [default: /etc/bulkhead/bulkhead.toml]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
}

/// A limit that leaves a plugin something.
fn quota(text: &str) -> Result<ByteSize, String> {
    let limit: ByteSize = text.parse().map_err(|error| format!("{error}"))?;
    if limit < ByteSize::new(1 << 20) {
        return Err(format!("{limit} leaves a plugin nothing; at least 1M"));
    }
    if !limit.bytes().is_multiple_of(1024) {
        return Err(format!("{limit} is not a multiple of 1K, in which file systems count"));
    }
    Ok(limit)
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// [default: /etc/bulkhead/bulkhead.toml]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// End when this process does, which must be our parent: `bulkhead run`
    #[arg(long, hide = true, value_name = "PID")]
    pub(crate) parent: Option<i32>,
    /// The plugin whose calls are watched instead of refused, and by whom: `bulkhead learn`
    #[arg(long, hide = true, value_name = "ID=SOCKET", requires = "parent")]
    pub(crate) learn: Option<Learning>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Packages, and directories with plugin.toml and the binary; one that others depend on may
    /// come later
    #[arg(required = true, value_name = "FILE|DIR", value_hint = ValueHint::AnyPath)]
    pub(crate) paths: Vec<PathBuf>,
    /// Configuration, as JSON or TOML: `FILE` for a single plugin, `ID=FILE` for one of several
    #[arg(long, value_name = "[ID=]FILE")]
    pub(crate) config: Vec<String>,
    /// Keep store, plugin data and state here, for the next run
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) state: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) strictness: StrictnessFlags,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct StrictnessFlags {
    /// Refuse to start anything if this machine lacks a layer
    #[arg(long, conflicts_with = "best_effort")]
    pub(crate) strict: bool,
    /// Start with the layers that this machine has, and say which are missing (the default)
    #[arg(long)]
    pub(crate) best_effort: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_grammar_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_commands_own_flags_are_its_own() {
        for line in [
            "bulkhead exec --memory 64M --pids 32 -- stress-ng --vm 1 --timeout 20",
            "bulkhead exec --memory 64M --pids 32 stress-ng --vm 1 --timeout 20",
        ] {
            let Verb::Exec(exec) = parse(line).unwrap().verb else { panic!("{line}") };
            assert_eq!(exec.memory.unwrap().bytes(), 64 << 20);
            assert_eq!(exec.timeout, None);
            assert_eq!(exec.command, ["stress-ng", "--vm", "1", "--timeout", "20"]);
        }
    }

    #[test]
    fn bad_values_are_usage_errors_that_name_the_value() {
        for (line, value) in [
            ("bulkhead exec --memory 64Q true", "64Q"),
            ("bulkhead exec --cpu 20 true", "20"),
            ("bulkhead exec --connect 0 true", "0"),
            ("bulkhead exec --timeout 5 true", "5"),
            ("bulkhead exec --timeout 0s true", "before it begins"),
            ("bulkhead exec --uid 0 true", "0"),
            ("bulkhead enable Scheduler", "Scheduler"),
            ("bulkhead disable a --timeout soon", "soon"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(value), "{line}: {error}");
        }
        assert!(parse("bulkhead exec --strict --best-effort true").is_err());
        assert!(parse("bulkhead exec").is_err());
    }

    #[test]
    fn without_a_verb_those_are_listed_that_are_for_people() {
        let words = ["bulkhead", "--json"].map(OsString::from);
        let told = Arguments::read(words).unwrap_err().to_string();
        assert!(told.contains("install") && told.contains("learn"), "{told}");
        for hidden in ["supervise", "pause-points", "unpack", "-data", "attack"] {
            assert!(!told.contains(hidden), "{hidden} in {told}");
        }
    }

    #[test]
    fn a_socket_of_the_environment_is_no_part_of_a_usage() {
        let socket = |command: &clap::Command| {
            let found = command.get_arguments().find(|one| one.get_id() == "socket");
            found.and_then(|one| one.get_env().map(std::ffi::OsStr::to_owned))
        };
        assert_eq!(socket(&Arguments::command()), None);
    }

    #[test]
    fn a_call_has_an_argument_and_flags() {
        let line = "bulkhead call a m {} --json --timeout 1s";
        let Arguments { global, verb } = parse(line).unwrap();
        assert!(global.json);
        let Verb::Call(call) = verb else { panic!("it says call") };
        assert_eq!((call.argument.as_deref(), call.timeout.millis()), (Some("{}"), 1000));
    }

    #[test]
    fn global_flags_stand_anywhere() {
        let arguments = parse("bulkhead ls --json --socket /x").unwrap();
        assert!(arguments.global.json);
        assert_eq!(arguments.global.socket.unwrap(), PathBuf::from("/x"));
    }
}
