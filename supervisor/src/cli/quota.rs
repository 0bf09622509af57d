//! `bulkhead quota-init`: a hard limit of the file system for every uid that plugins are given.
//!
//! It is run with privilege once, so that the service needs none for it: that only looks what the
//! limits are (`launcher/measuring.rs`). Each limit is read back after it is set.

use std::io;
use std::ops::Range;
use std::process::ExitCode;

use bulkhead_sandbox::quota::{self, Quota};
use nix::errno::Errno;
use nix::unistd::geteuid;
use serde::Serialize;
use serde_json::json;

use super::args::{Global, QuotaInit};
use super::problem::{Problem, printable};
use super::render::{self, Screen, Tone};
use super::{Ended, finish};
use crate::config::Config;
use crate::failure::{Code, Failure};
use crate::file_system::{FileSystem, Place};
use crate::supervise::files_of;

/// What every uid gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    /// `None`: no limit.
    bytes: Option<u64>,
    files: Option<u64>,
}

/// What was done, or would be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    dry_run: bool,
    #[serde(flatten)]
    file_system: FileSystem,
    first_uid: u32,
    uids: usize,
    limit_bytes: Option<u64>,
    limit_files: Option<u64>,
    /// How many did not have these limits before.
    changed: usize,
    /// Those that keep more than that already.
    over: Vec<Over>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Over {
    uid: u32,
    used_bytes: u64,
    used_files: u64,
}

pub(super) fn run(arguments: &QuotaInit, global: &Global) -> ExitCode {
    let mut screen = Screen::stdout(global.json);
    let done = init(arguments)
        .map_err(|failure| Problem::from(failure).into())
        .and_then(|done| show(&mut screen, &done));
    finish(done, global.json)
}

fn init(arguments: &QuotaInit) -> Result<Done, Failure> {
    if !geteuid().is_root() {
        let message = "limits of a file system are root's to see and to set; run \
                       `sudo bulkhead quota-init`";
        return Err(Failure::new(Code::PermissionDenied, message).with("permission", "root"));
    }
    let config = Config::load(arguments.config.as_deref())?;
    // The plugins' own directory may be a file system of its own.
    let storage = config.state.join("plugins");
    let path = if storage.exists() { &storage } else { &config.state };
    let place = Place::open(path).map_err(|error| {
        let message = format!(
            "cannot open the state directory {}: {error}; start the service once, or make it, owned \
             by root",
            path.display()
        );
        Failure::new(Code::NotFound, message).with("path", path)
    })?;
    let limits = if arguments.remove {
        Limits { bytes: None, files: None }
    } else {
        let bytes = arguments.limit.bytes();
        let files = arguments.files.unwrap_or_else(|| files_of(bytes));
        Limits { bytes: Some(bytes), files: Some(files) }
    };
    provision(&place, config.uids.of_plugins(), limits, arguments.dry_run)
}

fn provision(
    place: &Place,
    uids: Range<u32>,
    limits: Limits,
    dry_run: bool,
) -> Result<Done, Failure> {
    let file_system = &place.file_system;
    if let Some(remedy) = file_system.remedy(quota::state(place.as_fd())) {
        let message = format!(
            "{} lies on {file_system}, which enforces no limits of users; {remedy}",
            place.path.display()
        );
        return Err(Failure::new(Code::StorageFailed, message)
            .with("path", &place.path)
            .with("filesystem", &file_system.kind)
            .with("mount", &file_system.mount));
    }
    let mut done = Done {
        dry_run,
        file_system: file_system.clone(),
        first_uid: uids.start,
        uids: uids.len(),
        limit_bytes: limits.bytes,
        limit_files: limits.files,
        changed: 0,
        over: Vec::new(),
    };
    for uid in uids {
        let before = quota::of(place.as_fd(), uid).map_err(|errno| refused(place, uid, errno))?;
        let Quota { used_bytes, used_files, .. } = before;
        if limits.bytes.is_some_and(|limit| used_bytes > limit)
            || limits.files.is_some_and(|limit| used_files > limit)
        {
            done.over.push(Over { uid, used_bytes, used_files });
        }
        if !limits.are_of(&before) {
            done.changed += 1;
            if !dry_run {
                limits.set(place, uid)?;
            }
        }
    }
    Ok(done)
}

impl Limits {
    fn are_of(self, quota: &Quota) -> bool {
        (quota.limit_bytes, quota.limit_files) == (self.bytes, self.files)
    }

    fn set(self, place: &Place, uid: u32) -> Result<(), Failure> {
        let refused = |errno| refused(place, uid, errno);
        quota::set(place.as_fd(), uid, self.bytes, self.files).map_err(refused)?;
        let after = quota::of(place.as_fd(), uid).map_err(refused)?;
        if self.are_of(&after) {
            return Ok(());
        }
        let message = format!(
            "{} took the limits of uid {uid} and has others now: {after:?}",
            place.file_system
        );
        Err(Failure::new(Code::StorageFailed, message).with("path", &place.path))
    }
}

fn refused(place: &Place, uid: u32, errno: Errno) -> Failure {
    let on = &place.file_system;
    if errno == Errno::EPERM {
        let message = format!(
            "the limits of uid {uid} on {on} take CAP_SYS_ADMIN to see and to set, which this root has \
             not got; run it outside of the container or unit"
        );
        return Failure::new(Code::PermissionDenied, message).with("permission", "CAP_SYS_ADMIN");
    }
    let message = format!("the limits of uid {uid} on {on} cannot be set: {errno}");
    Failure::new(Code::StorageFailed, message).with("path", &place.path)
}

fn show(screen: &mut Screen, done: &Done) -> Result<(), Ended> {
    if screen.json() {
        screen.document(&json!(done))?;
        return Ok(screen.flush()?);
    }
    let last = done.first_uid as usize + done.uids - 1;
    let whose = format!("each of the uids {} to {last} on {}", done.first_uid, done.file_system);
    let verb = if done.dry_run { "would have" } else { "has" };
    match (done.limit_bytes, done.limit_files) {
        (Some(bytes), Some(files)) => screen.line(&format!(
            "{whose} {verb} a hard limit of {} and {files} files",
            render::bytes(bytes)
        ))?,
        _ => screen.line(&format!("{whose} {verb} no hard limit"))?,
    }
    let verb = if done.dry_run { "would change" } else { "changed" };
    screen.line(&format!(
        "{} {verb}, {} are so already",
        done.changed,
        done.uids - done.changed
    ))?;
    for Over { uid, used_bytes, used_files } in &done.over {
        let mark = screen.paint(Tone::Doubtful, "over");
        screen.line(&format!(
            "{mark}: uid {uid} keeps {} in {used_files} files already, and can write no more until \
             it keeps less",
            render::bytes(*used_bytes)
        ))?;
    }
    Ok(screen.flush()?)
}

/// How what plugins keep on this machine is bounded.
#[derive(Debug, Serialize)]
pub(super) struct Survey {
    /// `hard`, `sampled`, or `unknown` to who may not see it.
    enforcement: &'static str,
    #[serde(flatten)]
    file_system: Option<FileSystem>,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// Looks how it is, by a configuration of whoever asks.
pub(super) fn survey(config: &Config) -> Survey {
    if !geteuid().is_root() {
        let detail = "without root all plugins are one user".to_owned();
        return Survey { enforcement: "sampled", file_system: None, detail, remedy: None };
    }
    match Place::nearest(&config.state.join("plugins")) {
        Ok(place) => survey_of(&place, config.uids.of_plugins()),
        Err(error) => {
            let detail = format!("cannot look at {}: {error}", config.state.display());
            Survey { enforcement: "unknown", file_system: None, detail, remedy: None }
        }
    }
}

fn survey_of(place: &Place, uids: Range<u32>) -> Survey {
    let on = &place.file_system;
    let found = |enforcement, detail, remedy: Option<String>| Survey {
        enforcement,
        file_system: Some(on.clone()),
        detail,
        remedy,
    };
    if let Some(remedy) = on.remedy(quota::state(place.as_fd())) {
        let then = if on.has_quotas() { "; then run `bulkhead quota-init`" } else { "" };
        let detail = format!("{on} enforces no limits of users");
        return found("sampled", detail, Some(format!("{remedy}{then}")));
    }
    let all = uids.len();
    let quotas: Result<Vec<Quota>, Errno> = uids.map(|uid| quota::of(place.as_fd(), uid)).collect();
    let limits: Vec<u64> = match quotas {
        Ok(quotas) => quotas.iter().filter_map(|quota| quota.limit_bytes).collect(),
        Err(errno) => {
            return found("unknown", format!("the limits on {on} cannot be seen: {errno}"), None);
        }
    };
    match limits.iter().min() {
        Some(least) if limits.len() == all => {
            let least = render::bytes(*least);
            found("hard", format!("{on} bounds each of {all} uids, to {least} at least"), None)
        }
        _ => {
            let detail = format!("{} of {all} uids have a hard limit on {on}", limits.len());
            found("sampled", detail, Some("run `bulkhead quota-init`".to_owned()))
        }
    }
}

impl Survey {
    pub(super) fn show(&self, screen: &mut Screen) -> io::Result<()> {
        let tone = if self.enforcement == "hard" { Tone::Good } else { Tone::Doubtful };
        let how = screen.paint(tone, &format!("storage: {}", self.enforcement));
        screen.line(&format!("{how}: {}", printable(&self.detail)))?;
        match &self.remedy {
            Some(remedy) => screen.line(&format!("to do: {}", printable(remedy))),
            None => Ok(()),
        }
    }
}
