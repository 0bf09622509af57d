//! What was refused to one plugin, counted.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::refusal::{KEPT, Refused};

/// Of one plugin, through all its starts under this supervisor.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// What its processes run as; none: that is another plugin's by now.
    pub(super) uid: Option<u32>,
    /// The start that refusals are of now.
    pub(super) generation: u64,
    /// Nobody listened when that start made itself known.
    pub(super) adopted: bool,
    /// The last seen is last.
    seen: Vec<Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    refused: Refused,
    count: u64,
    last: Timestamp,
    generation: u64,
}

/// A refusal, and how often it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Denial)]
pub(crate) struct Counted {
    #[serde(flatten)]
    refused: Refused,
    count: u64,
    /// RFC 3339, UTC.
    last: String,
}

impl Ledger {
    /// Counts a refusal; whether it is a new one.
    pub(super) fn note(&mut self, refused: Refused) -> bool {
        let (last, generation) = (Timestamp::now(), self.generation);
        if let Some(at) = self.seen.iter().position(|seen| seen.refused == refused) {
            let seen = self.seen.remove(at);
            self.seen.push(Seen { count: seen.count.saturating_add(1), last, generation, ..seen });
            return false;
        }
        let is_of_layer = |seen: &&Seen| seen.refused.layer() == refused.layer();
        if self.seen.iter().filter(is_of_layer).count() == KEPT
            && let Some(oldest) = self.seen.iter().position(|seen| is_of_layer(&seen))
        {
            self.seen.remove(oldest);
        }
        self.seen.push(Seen { refused, count: 1, last, generation });
        true
    }

    /// All that is kept, the last seen first.
    pub(super) fn shown(&self) -> Vec<Counted> {
        self.seen.iter().rev().map(Seen::shown).collect()
    }

    /// What Landlock refused to a start, the last first.
    pub(super) fn accesses(&self, generation: u64) -> impl Iterator<Item = &Refused> {
        self.seen
            .iter()
            .rev()
            .filter(move |seen| seen.generation == generation)
            .map(|seen| &seen.refused)
            .filter(|refused| refused.is_by_landlock())
    }
}

impl Seen {
    fn shown(&self) -> Counted {
        Counted {
            refused: self.refused.clone(),
            count: self.count,
            last: format!("{:.3}", self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_sandbox::kernel_audit::Refusal;

    use super::*;
    use crate::refusal::Settings;

    fn call(name: impl ToString) -> Refused {
        Refused::new(&Refusal::Seccomp { call: name.to_string() }, Settings::Manifest)
    }

    #[test]
    fn the_same_again_is_counted_and_not_new() {
        let mut ledger = Ledger::default();
        assert!(ledger.note(call("bpf")));
        assert!(ledger.note(call("mount")));
        assert!(!ledger.note(call("bpf")));
        let counts: Vec<u64> = ledger.shown().iter().map(|seen| seen.count).collect();
        assert_eq!(counts, [2, 1], "the last seen is first");
    }

    #[test]
    fn a_flood_of_different_ones_is_bounded() {
        let mut ledger = Ledger::default();
        for number in 0..1000 {
            ledger.note(call(number));
        }
        assert_eq!(ledger.seen.len(), KEPT);
        assert_eq!(ledger.shown()[0].refused, call(999));
    }

    #[test]
    fn what_a_plugin_asks_for_in_a_flood_hides_nothing_that_the_kernel_refused() {
        let mut ledger = Ledger::default();
        ledger.note(call("bpf"));
        let connect = |number| Refused::by_grant(format!("connect h{number}:1"), None);
        for number in 0..1000 {
            ledger.note(connect(number));
        }
        assert_eq!(ledger.seen.len(), KEPT + 1);
        let shown = ledger.shown();
        assert_eq!((&shown[0].refused, &shown[KEPT].refused), (&connect(999), &call("bpf")));
        assert_eq!(shown[KEPT - 1].refused, connect(968), "those that were last");
    }
}
