//! Why a plugin stops.

use std::fmt;

/// Why a plugin is asked to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// An operator disables it.
    Disable,
    /// The supervisor shuts down.
    Shutdown,
    /// A new version takes its place.
    Upgrade,
    /// It is about to be removed.
    Uninstall,
    /// SIGTERM came without a word from the supervisor.
    Terminated,
    /// No session with a supervisor for the resume time, or its launcher is gone.
    Orphaned,
    /// Another reason, in the supervisor's words.
    Other(String),
}

impl Reason {
    pub(crate) fn of_drain(text: &str) -> Self {
        match text {
            "disable" => Self::Disable,
            "shutdown" => Self::Shutdown,
            "upgrade" => Self::Upgrade,
            "uninstall" => Self::Uninstall,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Disable => "disable",
            Self::Shutdown => "shutdown",
            Self::Upgrade => "upgrade",
            Self::Uninstall => "uninstall",
            Self::Terminated => "terminated",
            Self::Orphaned => "orphaned",
            Self::Other(text) => text,
        })
    }
}
