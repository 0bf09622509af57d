//! What is counted of one plugin as it happens.

use std::collections::BTreeMap;
use std::time::Duration;

use bulkhead_sandbox::Cause;

use super::histogram::Histogram;
use crate::failure::{Code, Failure};
use crate::manifest::Manifest;

/// The label of methods that the manifest does not name.
pub(super) const OTHER: &str = "other";

/// How a call came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Ok,
    /// The plugin answered with an error.
    Failed,
    /// The caller has not been granted what it takes.
    Refused,
    /// The plugin was not up.
    Unavailable,
    /// Too much waited for the plugin already, or the call was too long.
    Exhausted,
    Timeout,
    /// The plugin was lost while it worked on it.
    Died,
    /// Whoever asked has gone away.
    Cancelled,
}

impl Outcome {
    const ALL: [Self; 8] = [
        Self::Ok,
        Self::Failed,
        Self::Refused,
        Self::Unavailable,
        Self::Exhausted,
        Self::Timeout,
        Self::Died,
        Self::Cancelled,
    ];

    pub(super) fn of<T>(result: &Result<T, Failure>) -> Self {
        let Err(failure) = result else { return Self::Ok };
        // What the plugin itself answered, whatever the code that it passes on.
        if failure.details.get("pluginCode").is_some() {
            return Self::Failed;
        }
        match failure.code {
            Code::PermissionDenied => Self::Refused,
            Code::Conflict | Code::DependencyMissing | Code::NotFound => Self::Unavailable,
            Code::ResourceExhausted | Code::InvalidRequest => Self::Exhausted,
            Code::Timeout => Self::Timeout,
            Code::PluginDied => Self::Died,
            _ => Self::Failed,
        }
    }

    /// Whether the plugin had the call, so that the time that it took is the plugin's.
    fn reached(self) -> bool {
        matches!(self, Self::Ok | Self::Failed | Self::Timeout | Self::Died)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Exhausted => "exhausted",
            Self::Timeout => "timeout",
            Self::Died => "died",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The calls of one method.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    outcomes: [u64; Outcome::ALL.len()],
    pub(super) duration: Histogram,
}

impl Calls {
    /// Outcomes that there were, with their number.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = Outcome::ALL.iter().map(|outcome| outcome.name()).zip(self.outcomes);
        all.filter(|(_, count)| *count > 0)
    }
}

/// The counters of a plugin. They begin at zero with the supervisor.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// By the method's label.
    pub(super) calls: BTreeMap<String, Calls>,
    pub(super) restarts: u64,
    /// Ends that nobody asked for, by reason.
    pub(super) deaths: BTreeMap<&'static str, u64>,
    /// What it was refused, by what it was.
    pub(super) refusals: BTreeMap<&'static str, u64>,
    /// Events that did not arrive, by why.
    pub(super) losses: BTreeMap<&'static str, u64>,
    /// Processes that were killed for memory, in starts that have ended.
    pub(super) oom_kills: u64,
}

impl Counts {
    pub(super) fn called(&mut self, method: &str, outcome: Outcome, took: Duration) {
        if !self.calls.contains_key(method) {
            self.calls.insert(method.to_owned(), Calls::default());
        }
        let Some(calls) = self.calls.get_mut(method) else { return };
        calls.outcomes[outcome as usize] += 1;
        if outcome.reached() {
            calls.duration.observe(took);
        }
    }
}

/// The label of a method: its name where the manifest has it, with or without its service.
pub(super) fn label<'a>(manifest: &Manifest, method: &'a str) -> &'a str {
    let known = |service: Option<&str>, name: &str| {
        let mut provided = manifest.provides.iter();
        provided.any(|(its, provided)| {
            service.is_none_or(|service| its.as_str() == service)
                && provided.methods.contains_key(name)
        })
    };
    match method.split_once('/') {
        Some((service, name)) if known(Some(service), name) => name,
        None if known(None, method) => method,
        _ => OTHER,
    }
}

/// All that a plugin can be refused.
pub(super) const REFUSALS: [&str; 4] = ["call", "connect", "publish", "hear"];

/// All that can keep an event from it.
pub(super) const LOSSES: [&str; 3] = ["missed", "refused", "withheld"];

/// All that [`reason`] says.
pub(super) const REASONS: [&str; 8] =
    ["exit", "exit_code", "out_of_memory", "seccomp", "file_size", "killed", "signal", "unknown"];

/// Why a process ended, in a word.
pub(super) fn reason(cause: &Cause) -> &'static str {
    match cause {
        Cause::Code(0) => "exit",
        Cause::Code(_) => "exit_code",
        Cause::OutOfMemory { .. } => "out_of_memory",
        Cause::Seccomp => "seccomp",
        Cause::FileSize { .. } => "file_size",
        Cause::Killed => "killed",
        Cause::Signal(_) => "signal",
        Cause::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_labels_of_methods_are_those_of_the_manifest() {
        let text = "id = 'a'\nversion = '1.0.0'\n[provides.s]\nversion = '1.0.0'\n\
                    [provides.s.methods]\nbook = {}";
        let manifest = Manifest::parse(text.as_bytes(), Path::new("plugin.toml")).unwrap();
        for (method, expected) in
            [("book", "book"), ("s/book", "book"), ("t/book", OTHER), ("s/x", OTHER), ("x", OTHER)]
        {
            assert_eq!(label(&manifest, method), expected, "{method}");
        }
    }

    #[test]
    fn what_a_plugin_passes_on_is_its_own_failure() {
        let refused = Failure::new(Code::PermissionDenied, "no");
        let passed_on = refused.clone().with("pluginCode", "PERMISSION_DENIED");
        assert_eq!(Outcome::of::<()>(&Err(refused)), Outcome::Refused);
        assert_eq!(Outcome::of::<()>(&Err(passed_on)), Outcome::Failed);
        assert_eq!(Outcome::of(&Ok(())), Outcome::Ok);
        for (at, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, at, "{}", outcome.name());
        }
    }

    #[test]
    fn the_time_of_what_did_not_arrive_is_not_the_plugins() {
        let mut counts = Counts::default();
        counts.called("book", Outcome::Ok, Duration::from_millis(1));
        counts.called("book", Outcome::Refused, Duration::from_millis(1));
        let calls = &counts.calls["book"];
        assert_eq!(calls.outcomes().collect::<Vec<_>>(), [("ok", 1), ("refused", 1)]);
        assert_eq!(calls.duration.counts.iter().sum::<u64>(), 1);
    }
}
