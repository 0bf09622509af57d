//! Operations on a plugin that survive any death: install, enable, upgrade, rollback, uninstall.
//!
//! ```text
//! install    tree → storage → logs → row → restore ─╫▶ task
//! enable     ╫▶ row → start
//! upgrade    tree → stop → snapshot → row → task → start ─╫▶ settle
//! rollback   tree → stop → snapshot → row → task → start ─╫▶ settle
//! uninstall  ╫▶ stop → archive → task → storage → logs → row → tree
//! ```
//! Theory of operation. An operation takes a plugin from what it was to what it is to be, either of
//! which may be nothing, in the steps above. Before a step its intention is committed to the journal
//! (`operation` in the store). Each step can be repeated, and each has its undo, which can be repeated
//! as well and also takes back half of a step. A failure undoes all steps, the last first, and that it
//! does is committed before. After the death of a process the next supervisor reads the journal before
//! it manages anything: what had failed, or was to the left of the double stroke, is undone, the rest
//! is finished. So whoever asks later sees the state
//! before, or the whole of the operation.

mod carry;
mod pause;
mod recovery;
mod step;
mod turn;
mod unfinished;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::id::{Digest, PluginId};
use crate::supervise::archives::ArchiveName;
use crate::supervise::store::{OpenOperation, PluginRow};
use crate::trust::KeyId;

#[cfg(debug_assertions)]
pub(crate) use pause::points;
pub(in crate::supervise) use pause::{DISABLE, Moment, WANT, pause};
pub(super) use pause::{FETCH, STOP};
pub(crate) use recovery::{Recovered, Resumed};
pub(super) use turn::{Halt, Request, Turn, Turns};
pub(crate) use unfinished::Remainder;
pub(super) use unfinished::Unfinished;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Install,
    Enable,
    Upgrade,
    Rollback,
    Uninstall,
}

/// A step; what it does depends on what the plugin is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Step {
    /// The trees in the launcher's store: one that nobody needs any more is discarded.
    Tree,
    /// What runs is drained and stopped.
    Stop,
    /// What it leaves behind is written to an archive, where that was asked for.
    Archive,
    /// What an archive has is taken up, where that was asked for.
    Restore,
    /// The state is kept as it was.
    Snapshot,
    /// The uid and the data directory.
    Storage,
    /// The directory of the logs.
    Logs,
    /// What the store says of the plugin.
    Row,
    /// The task that manages it.
    Task,
    /// What is to run is started, what it depends on first; another version has to stay up.
    Start,
    /// What was kept for the undo goes.
    Settle,
}

/// From what, to what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    /// What it was; none: it is installed.
    pub(crate) from: Option<PluginRow>,
    /// What it is to be; none: it is uninstalled.
    pub(crate) to: Option<PluginRow>,
    /// Whether to go on past what does not stop.
    #[serde(default)]
    pub(crate) force: bool,
    /// The archive that is written, or taken up.
    #[serde(default)]
    pub(crate) archive: Option<ArchiveName>,
    /// Whose signature the new version has, for those who are told.
    #[serde(default)]
    pub(crate) signed_by: Option<KeyId>,
}

/// An operation under way.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    number: i64,
    pub(crate) plugin: PluginId,
    pub(crate) plan: Plan,
    /// The step that was intended last.
    step: Step,
    /// It failed, and is taken back.
    undoing: bool,
}

impl Kind {
    #[cfg(any(test, debug_assertions))]
    pub(crate) const ALL: [Self; 5] =
        [Self::Install, Self::Enable, Self::Upgrade, Self::Rollback, Self::Uninstall];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Enable => "enable",
            Self::Upgrade => "upgrade",
            Self::Rollback => "rollback",
            Self::Uninstall => "uninstall",
        }
    }

    /// As the state of a plugin to which it happens.
    pub(crate) fn doing(self) -> &'static str {
        match self {
            Self::Install => "installing",
            Self::Enable => "enabling",
            Self::Upgrade => "upgrading",
            Self::Rollback => "rolling-back",
            Self::Uninstall => "uninstalling",
        }
    }

    pub(crate) fn steps(self) -> &'static [Step] {
        use Step::{
            Archive, Logs, Restore, Row, Settle, Snapshot, Start, Stop, Storage, Task, Tree,
        };
        match self {
            Self::Install => &[Tree, Storage, Logs, Row, Restore, Task],
            Self::Enable => &[Row, Start],
            Self::Upgrade | Self::Rollback => &[Tree, Stop, Snapshot, Row, Task, Start, Settle],
            Self::Uninstall => &[Stop, Archive, Task, Storage, Logs, Row, Tree],
        }
    }

    /// Whether a failure at this step is not undone: from there on only the rest can be done.
    fn is_past_return(self, step: Step) -> bool {
        match self {
            Self::Install | Self::Enable => false,
            Self::Upgrade | Self::Rollback => step == Step::Settle,
            Self::Uninstall => !matches!(step, Step::Stop | Step::Archive | Step::Task),
        }
    }

    /// Whether, after a death at this step, the rest is done instead of the undo.
    fn is_finished(self, step: Step) -> bool {
        match self {
            // The row says all: the next supervisor makes the task of every row.
            Self::Install => step == Step::Task,
            Self::Upgrade | Self::Rollback => step == Step::Settle,
            Self::Enable | Self::Uninstall => true,
        }
    }

    /// Whether it starts the plugin, so that a disabling meanwhile is to halt it.
    fn starts(self) -> bool {
        matches!(self, Self::Enable | Self::Upgrade | Self::Rollback)
    }

    /// Whether each step is written down. Of an enabling only that it has begun: it is done again from
    /// its first step, which changes nothing where it was done.
    fn journals_steps(self) -> bool {
        self != Self::Enable
    }
}

impl Step {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Stop => "stop",
            Self::Archive => "archive",
            Self::Restore => "restore",
            Self::Snapshot => "snapshot",
            Self::Storage => "storage",
            Self::Logs => "logs",
            Self::Row => "row",
            Self::Task => "task",
            Self::Start => "start",
            Self::Settle => "settle",
        }
    }

    /// Whether it outlives the supervisor. What does not needs no undo after its death.
    fn is_durable(self) -> bool {
        !matches!(self, Self::Stop | Self::Task | Self::Start)
    }
}

impl Plan {
    /// A plan that changes nothing yet.
    pub(super) fn of(kind: Kind) -> Self {
        Self { kind, from: None, to: None, force: false, archive: None, signed_by: None }
    }

    /// The trees that it is about.
    fn trees(&self) -> Vec<Digest> {
        let rows = [&self.from, &self.to];
        let mut trees: Vec<Digest> = rows
            .into_iter()
            .flatten()
            .flat_map(|row| [Some(row.digest), row.previous.as_ref().map(|it| it.digest)])
            .flatten()
            .collect();
        trees.sort_unstable();
        trees.dedup();
        trees
    }

    /// What the events of the operation say of it.
    fn body(&self) -> Value {
        let version = |row: &Option<PluginRow>| row.as_ref().map(|row| row.version.to_string());
        match self.kind {
            Kind::Install => json!({
                "version": version(&self.to),
                "digest": self.to.as_ref().map(|row| row.digest),
                "signedBy": self.signed_by,
            }),
            Kind::Enable => json!({ "version": version(&self.to) }),
            Kind::Upgrade | Kind::Rollback => json!({
                "version": version(&self.to),
                "previous": version(&self.from),
                "signedBy": self.signed_by,
            }),
            Kind::Uninstall => json!({
                "version": version(&self.from),
                "force": self.force,
                "archive": self.archive,
            }),
        }
    }
}

impl Operation {
    /// As it is in the journal.
    fn read(open: OpenOperation) -> Result<Self, Failure> {
        let unreadable = |error: serde_json::Error| {
            Failure::internal(format!("operation {} cannot be read: {error}", open.number))
        };
        Ok(Self {
            plan: serde_json::from_value(open.plan).map_err(unreadable)?,
            step: serde_json::from_value(Value::String(open.step)).map_err(unreadable)?,
            number: open.number,
            plugin: open.plugin,
            undoing: open.undoing,
        })
    }

    /// Whether, after a death, the rest of it is done.
    fn is_finished(&self) -> bool {
        !self.undoing && self.plan.kind.is_finished(self.step)
    }

    /// The plugin was disabled meanwhile: whatever becomes of this, it stays so.
    fn stays_disabled(&mut self) {
        for row in [&mut self.plan.from, &mut self.plan.to].into_iter().flatten() {
            row.enabled = false;
        }
    }

    /// Whether the plugin's task has to be there: it is yet to be stopped.
    pub(crate) fn needs_task(&self) -> bool {
        self.plan.kind == Kind::Uninstall && self.step == Step::Stop
    }
}

#[cfg(test)]
mod tests;
