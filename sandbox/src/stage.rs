//! The steps of a start, in order. Errors name one.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! stages {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// A step of the start, in the order in which they happen.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[repr(u8)]
        pub enum Stage { $($(#[doc = $doc])* $variant,)* }

        impl Stage {
            /// Every step, in order.
            pub const ALL: &[Stage] = &[$(Stage::$variant,)*];

            /// The step in words, for example `mounting`.
            pub const fn name(self) -> &'static str {
                match self { $(Stage::$variant => $name,)* }
            }
        }
    };
}

stages! {
    /// The process exists.
    Clone = "clone",
    /// Signal handlers and the signal mask are as in a fresh process.
    Signals = "resetting signals",
    /// Each source of a mount is held open.
    Sources = "opening the source",
    /// The uid and gid maps are written (by the launcher).
    IdMaps = "waiting for the id maps",
    /// Groups, gid and uid are changed.
    Ids = "changing ids",
    /// The private root exists.
    Root = "making the private root",
    /// A source is mounted in it.
    Mount = "mounting",
    /// A private /proc is mounted.
    Proc = "mounting /proc",
    /// The private root is the root.
    Pivot = "entering the private root",
    /// The host name is set.
    HostName = "setting the host name",
    /// The process dies with the launcher.
    DeathSignal = "arming the death signal",
    /// Only the descriptors that were granted are open.
    Descriptors = "closing descriptors",
    /// Resource limits are set.
    Limits = "setting resource limits",
    /// The working directory is entered.
    Directory = "entering the working directory",
    /// No capability is left.
    Capabilities = "dropping capabilities",
    /// No privilege can be gained.
    NoNewPrivs = "refusing new privileges",
    /// Landlock's rules are in force.
    Landlock = "restricting by landlock",
    /// A file that must not open did not.
    Canary = "checking landlock",
    /// The program's process exists beneath the init.
    Fork = "forking the program",
    /// The system call filter is in force.
    Seccomp = "filtering system calls",
    /// The program runs.
    Exec = "executing the program",
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
