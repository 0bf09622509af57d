//! By what the plugins are sorted.

use std::cmp::Ordering;

use super::model::Watched;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Id,
    State,
    Uptime,
    Memory,
    Cpu,
    Pids,
    Storage,
    Deaths,
    Calls,
    Errors,
    /// How many are missing.
    Layers,
}

impl Order {
    const ALL: [Self; 11] = [
        Self::Id,
        Self::State,
        Self::Uptime,
        Self::Memory,
        Self::Cpu,
        Self::Pids,
        Self::Storage,
        Self::Deaths,
        Self::Calls,
        Self::Errors,
        Self::Layers,
    ];

    /// The one after it, or with `back` the one before.
    pub(super) fn next(self, back: bool) -> Self {
        let count = Self::ALL.len();
        let at = Self::ALL.iter().position(|order| *order == self).unwrap_or_default();
        Self::ALL[(at + if back { count - 1 } else { 1 }) % count]
    }

    /// Of numbers, the large ones are looked for.
    pub(super) fn falls(self) -> bool {
        !matches!(self, Self::Id | Self::State)
    }

    /// Which of two comes first; what is not known comes last, and of equals the lower id.
    pub(super) fn compare(self, falling: bool, one: &Watched, other: &Watched) -> Ordering {
        let by_id = || one.row.id.cmp(&other.row.id);
        let turned = |ordering: Ordering| if falling { ordering.reverse() } else { ordering };
        match self {
            Self::Id => turned(by_id()),
            Self::State => turned(one.row.state.cmp(&other.row.state)).then_with(by_id),
            _ => match (self.number(one), self.number(other)) {
                (Some(a), Some(b)) => turned(a.total_cmp(&b)).then_with(by_id),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => by_id(),
            },
        }
    }

    fn number(self, of: &Watched) -> Option<f64> {
        let whole = |number: u64| number as f64;
        match self {
            Self::Id | Self::State => None,
            Self::Uptime => of.row.process.map(|process| whole(process.uptime_ms)),
            Self::Memory => of.row.memory.map(whole),
            Self::Cpu => of.cpu,
            Self::Pids => of.row.pids.map(whole),
            Self::Storage => of.storage.map(|storage| whole(storage.used)),
            Self::Deaths => Some(whole(of.counters.deaths)),
            Self::Calls => of.pace.calls_per_second(),
            Self::Errors => of.pace.error_share(),
            Self::Layers => of.row.layers.as_ref().map(|layers| layers.missing.len() as f64),
        }
    }
}
