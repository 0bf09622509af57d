//! A plugin's data, written to an archive and made again, by its own uid in a compartment.
//!
//! The supervisor cannot read it and the launcher will not: whatever lies there is the plugin's. What
//! is written, and what is read, is a file of the supervisor's, which is hostile too, so it is opened
//! anew for only what is done with it.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use bulkhead_sandbox::{Cause, Status, Strictness};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::errands::Purpose;
use super::event_loop::Launcher;
use super::one_shot::{Ended, Stdout, Task};
use super::packages::regular_at_home;
use super::plugins::no_descriptors;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::link::{Reply, RequestNumber};
use crate::plugin_data::TOO_LARGE;

/// What a plugin's data may take: a slow disk writes a few gigabytes in that time.
const WITHIN: Duration = Duration::from_secs(600);
/// The largest file that is made again. What a plugin can write itself is bounded at its start.
const MAX_FILE: u64 = 1 << 40;
/// At a time: each takes memory and a disk's attention.
const MAX_MOVING: usize = 4;

/// Data on its way.
pub(super) struct Moving {
    pub(super) id: PluginId,
    /// The most that may be written, where it is saved.
    limit: Option<u64>,
}

impl Launcher {
    pub(super) fn save_data(
        &mut self,
        number: RequestNumber,
        id: PluginId,
        to: &OwnedFd,
        limit: u64,
    ) -> Result<(), Failure> {
        let arguments = ["archive-data".to_owned(), limit.to_string()];
        permitted(to, OFlag::O_WRONLY)?;
        let task = self.data_task(&id, to, &arguments)?;
        let task = Task {
            stdout: Stdout::File(again(to, File::options().write(true))?),
            writable: false,
            // Its own limit is the same, and says so instead of dying of it.
            file_size: limit.saturating_add(1),
            ..task
        };
        self.move_data(number, task, Moving { id, limit: Some(limit) })
    }

    pub(super) fn restore_data(
        &mut self,
        number: RequestNumber,
        id: PluginId,
        from: &OwnedFd,
    ) -> Result<(), Failure> {
        permitted(from, OFlag::O_RDONLY)?;
        let task = self.data_task(&id, from, &["restore-data".to_owned()])?;
        let task = Task { stdin: again(from, File::options().read(true))?, ..task };
        self.move_data(number, task, Moving { id, limit: None })
    }

    /// What both have in common, if it can be done now and `file` is one that can be used.
    fn data_task(
        &self,
        id: &PluginId,
        file: &OwnedFd,
        arguments: &[String],
    ) -> Result<Task, Failure> {
        self.check_serving()?;
        self.check_idle(id)?;
        let under_way = self.errands.moving();
        if under_way >= MAX_MOVING {
            let message = format!("{under_way} helpers are at work; try again later");
            return Err(Failure::new(Code::ResourceExhausted, message)
                .with("resource", "helpers")
                .with("limit", MAX_MOVING)
                .with("used", under_way));
        }
        regular_at_home(file, &self.settings.state, "an archive")?;
        let place = self.storage.get(id).ok_or_else(|| {
            Failure::new(Code::NotFound, format!("plugin {id} has no storage"))
                .with("what", "storage")
                .with("name", id)
        })?;
        let nothing = File::open("/dev/null").map_err(|error| no_descriptors(&error))?;
        let own = ["bulkhead".to_owned()];
        Ok(Task {
            // No plugin's id has this character.
            name: format!("_data-{}", self.generation),
            identity: self.ownership.identity(place.uid),
            program: "/proc/self/exe".into(),
            arguments: own.iter().chain(arguments).cloned().collect(),
            stdin: nothing.into(),
            stdout: Stdout::Kept,
            directory: place.data,
            writable: true,
            file_size: MAX_FILE,
            strictness: if self.rules.strict { Strictness::Strict } else { Strictness::BestEffort },
            within: WITHIN,
        })
    }

    fn move_data(
        &mut self,
        number: RequestNumber,
        task: Task,
        moving: Moving,
    ) -> Result<(), Failure> {
        self.start_errand(number, task, Purpose::Data(moving)).map_err(|(failure, _)| failure)
    }

    /// The compartment is gone: tells how it went.
    pub(super) fn data_moved(
        &mut self,
        reply_to: Option<RequestNumber>,
        moving: &Moving,
        ended: Ended,
    ) {
        // Nobody is left to be told.
        let Some(number) = reply_to else { return };
        self.answer(number, judge(moving, ended).map(|()| Reply::Done), Vec::new());
    }
}

/// Whether the sender could do this with the file himself: opening it anew is done with the launcher's
/// privilege, and a descriptor alone (O_PATH, or one for reading) can be had of any file that can be
/// named.
fn permitted(file: &OwnedFd, wanted: OFlag) -> Result<(), Failure> {
    let flags = fcntl(file, FcntlArg::F_GETFL).map_err(|errno| no_descriptors(&errno.into()))?;
    let flags = OFlag::from_bits_retain(flags);
    let access = flags & OFlag::O_ACCMODE;
    if !flags.contains(OFlag::O_PATH) && (access == OFlag::O_RDWR || access == wanted) {
        return Ok(());
    }
    let message = "the descriptor of an archive must be open for what is to be done with it";
    Err(Failure::new(Code::PermissionDenied, message).with("what", "an archive"))
}

/// The same file, opened for nothing but what is done with it.
fn again(file: &OwnedFd, options: &std::fs::OpenOptions) -> Result<OwnedFd, Failure> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    options.open(path).map(Into::into).map_err(|error| no_descriptors(&error))
}

fn judge(moving: &Moving, ended: Ended) -> Result<(), Failure> {
    let Ended { exit, late, .. } = ended;
    let id = &moving.id;
    if let Some(within) = late {
        let message = format!("the data of {id} was not moved within {within:?}");
        return Err(Failure::new(Code::Timeout, message)
            .with("stage", "data")
            .with("budgetMs", within.as_millis() as u64));
    }
    match (exit.status, exit.cause) {
        (Status::Exited(0), _) => Ok(()),
        (Status::Exited(code), _) if code == i32::from(TOO_LARGE) => {
            let limit = moving.limit.unwrap_or(MAX_FILE);
            Err(Failure::new(
                Code::ResourceExhausted,
                format!(
                    "the data of {id} takes more than the {limit} bytes that are left for archives; \
                     remove one, or raise [retention] archives"
                ),
            )
            .with("resource", "archives")
            .with("limit", limit))
        }
        (_, Cause::Killed) => {
            Err(Failure::new(Code::ShuttingDown, "the data was not moved: the service stops"))
        }
        (status, _) => Err(Failure::new(
            Code::StorageFailed,
            format!(
                "the data of {id} could not be moved ({status:?}): the disk is full, or the archive \
                 is damaged"
            ),
        )
        .with("path", "/data")),
    }
}
