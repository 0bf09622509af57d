//! `--report`: what the compartment was and how the command ended, as JSON.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bulkhead_sandbox::kernel_audit::Gathered;
use bulkhead_sandbox::stop::{Step, StepName};
use bulkhead_sandbox::{Enforcement, Exit, Policy};
use serde::Serialize;

use super::say;
use crate::cli::problem::Problem;
use crate::failure::Code;
use crate::refusal::{Refused, Settings};

/// Of what was refused, so many are told with the end.
const TOLD: usize = 3;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) command: Vec<String>,
    /// Of the compartment's init.
    pub(super) pid: i32,
    pub(super) identity: Identity,
    pub(super) exit_code: u8,
    pub(super) explanation: String,
    pub(super) wall_ms: u64,
    pub(super) timed_out: bool,
    /// Status, usage, cause.
    pub(super) exit: Exit,
    /// The stages of the stop, where --timeout made one.
    pub(super) timeline: Vec<Step>,
    /// Whether all of the policy is in force.
    pub(super) complete: bool,
    pub(super) enforcement: Enforcement,
    #[serde(flatten)]
    pub(super) denials: Denials,
    /// As it was asked for: a `--policy` file for the next time.
    pub(super) policy: Policy,
}

/// What seccomp and Landlock refused.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Denials {
    /// In the order in which they were first refused.
    denials: Vec<Counted>,
    /// Whether what Landlock denies could be seen: that takes root, kernel 6.15 and auditing
    /// switched on.
    denials_observable: bool,
}

#[derive(Debug, Serialize)]
struct Counted {
    #[serde(flatten)]
    refused: Refused,
    count: u64,
}

impl Denials {
    pub(super) fn of(gathered: Gathered) -> Self {
        let counted =
            |(refusal, count)| Counted { refused: Refused::new(&refusal, Settings::Flags), count };
        Self {
            denials: gathered.refusals.into_iter().map(counted).collect(),
            denials_observable: gathered.landlock_observable,
        }
    }

    /// The last that Landlock refused, for a person.
    pub(super) fn accesses(&self) -> Vec<String> {
        let by_landlock = self.denials.iter().rev().filter(|it| it.refused.is_by_landlock());
        by_landlock.take(TOLD).map(|it| it.refused.sentence()).collect()
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Identity {
    uid: u32,
    gid: u32,
    /// Whether the uid is the command's own.
    leased: bool,
}

impl Identity {
    pub(super) fn of(identity: bulkhead_sandbox::Identity) -> Self {
        match identity {
            bulkhead_sandbox::Identity::Leased { uid, gid } => Self { uid, gid, leased: true },
            bulkhead_sandbox::Identity::Invoker => Self {
                uid: nix::unistd::geteuid().as_raw(),
                gid: nix::unistd::getegid().as_raw(),
                leased: false,
            },
        }
    }
}

pub(super) fn step_name(step: StepName) -> String {
    match serde_json::to_value(step) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{step:?}"),
    }
}

/// Where the report goes. Opened before the start, so that a report that cannot be written is known
/// while nothing has happened.
pub(super) enum Target {
    None,
    StandardError,
    File(PathBuf, File),
}

impl Target {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Problem> {
        match path {
            None => Ok(Self::None),
            Some(path) if path == Path::new("-") => Ok(Self::StandardError),
            Some(path) => match File::create(path) {
                Ok(file) => Ok(Self::File(path.to_owned(), file)),
                Err(error) => Err(Problem::new(
                    Code::InvalidRequest,
                    format!(
                        "--report {}: {error}; name a file that can be written",
                        path.display()
                    ),
                )),
            },
        }
    }

    pub(super) fn write(&mut self, report: &Report) {
        self.put(report);
    }

    pub(super) fn write_problem(&mut self, problem: &Problem) {
        self.put(&serde_json::json!({ "exitCode": problem.exit_code, "error": problem }));
    }

    fn put(&mut self, value: &impl Serialize) {
        let written = match self {
            Self::None => return,
            Self::StandardError => put_line(&mut io::stderr().lock(), value),
            Self::File(_, file) => put_line(file, value),
        };
        if let (Err(error), Self::File(path, _)) = (written, &*self) {
            say(&format!("warning: the report {} is incomplete: {error}", path.display()));
        }
    }
}

fn put_line(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    writeln!(to, "{text}")
}
