//! `exec`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::StrictnessFlags;
use crate::manifest::{ByteSize, CpuShare, TimeSpan};

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Memory of all its processes, for example 64M
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<ByteSize>,
    /// CPU time, as a percentage of one CPU, for example 20%
    #[arg(long, value_name = "PERCENT")]
    pub(crate) cpu: Option<CpuShare>,
    /// Processes and threads
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub(crate) pids: Option<u32>,
    /// Open descriptors of each process
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(3..=1_048_576))]
    pub(crate) nofile: Option<u64>,
    /// The size of /tmp, and of the largest file
    #[arg(long, value_name = "SIZE")]
    pub(crate) storage: Option<ByteSize>,
    /// A file or directory that is visible and can be read, at the same path; repeatable
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) ro: Vec<PathBuf>,
    /// A file or directory that can be written; repeatable
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) rw: Vec<PathBuf>,
    /// A TCP port that it may connect to; repeatable
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) connect: Vec<u16>,
    /// A TCP port that it may listen on; repeatable
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) bind: Vec<u16>,
    /// A system call that it may make besides; repeatable
    #[arg(long, value_name = "SYSCALL")]
    pub(crate) allow: Vec<String>,
    /// An environment variable: `K=V`, or `K` to pass ours on; repeatable
    #[arg(long, value_name = "K[=V]")]
    pub(crate) env: Vec<OsString>,
    /// Stop it after this time: SIGTERM, then SIGKILL
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub(crate) timeout: Option<TimeSpan>,
    /// With --timeout: the time between SIGTERM and SIGKILL
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub(crate) kill_after: TimeSpan,
    /// A policy, as TOML or JSON; flags add to it and override it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) policy: Option<PathBuf>,
    /// As root: the user id to run as [default: one of its own]
    #[arg(long, value_name = "UID", value_parser = clap::value_parser!(u32).range(1..4_294_967_295))]
    pub(crate) uid: Option<u32>,
    #[command(flatten)]
    pub(crate) strictness: StrictnessFlags,
    /// Write the measured compartment, usage and cause of death here as JSON; `-` is standard error
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) report: Option<PathBuf>,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

/// A time in which a command can do something.
fn some_time(text: &str) -> Result<TimeSpan, String> {
    match text.parse::<TimeSpan>() {
        Ok(span) if span.millis() == 0 => {
            Err("it would be stopped before it begins; leave it out for no limit".to_owned())
        }
        Ok(span) => Ok(span),
        Err(error) => Err(error.to_string()),
    }
}
