//! When what a plugin uses is worth a `plugin:warning`.
//!
//! Theory of operation. A limit that is nearly used up is told when nine tenths are used, and told again
//! only after it was below eight: what goes up and down around a limit is told once. What the kernel
//! refused is told with how often, at most once in an interval; what is not told is in the count of the
//! next. All is decided here, on what a look found, and nothing is done.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::look::{Look, since};
use crate::failure::Code;
use crate::manifest::{ByteSize, CpuShare};
use crate::refusal::Barrier;
use crate::supervise::plugin::{Fill, Pressure};
use crate::words::times;

/// The code of a limit that is nearly used up.
const NEAR: &str = "RESOURCE_NEAR_LIMIT";
/// In fewer periods (of 100 ms) than this, how many of them ran out says little.
const PERIODS: u64 = 10;

/// A `plugin:warning` to be told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Warning {
    /// RESOURCE_EXHAUSTED where something was refused.
    exhausted: bool,
    resource: &'static str,
    limit: u64,
    used: u64,
    /// How often it was refused, since that was told last.
    count: Option<u64>,
    message: String,
}

impl Warning {
    pub(super) fn body(&self) -> Value {
        let code = if self.exhausted { json!(Code::ResourceExhausted) } else { json!(NEAR) };
        let details = json!({ "resource": self.resource, "limit": self.limit, "used": self.used });
        let mut body = json!({ "code": code, "message": self.message, "details": details });
        if let Some(count) = self.count {
            body["count"] = json!(count);
        }
        if self.exhausted {
            self.barrier().tell(&mut body);
        }
        body
    }

    /// What refused it.
    fn barrier(&self) -> Barrier {
        match self.resource {
            "memory" => Barrier::memory(self.limit),
            "pids" => Barrier::pids(self.limit),
            // Nothing else refuses what is kept on disk without stopping the plugin.
            hard => Barrier::hard_quota(hard, self.limit),
        }
    }
}

/// What was told of a limit.
#[derive(Clone, Copy, Debug, Default)]
struct Alarm(Pressure);

impl Alarm {
    /// Whether this is to be told.
    fn rises(&mut self, now: Pressure) -> bool {
        let rises = now >= Pressure::Near && now > self.0;
        if rises || now == Pressure::Low {
            self.0 = now;
        }
        rises
    }
}

/// What was told of refusals.
#[derive(Clone, Copy, Debug, Default)]
struct Refusals {
    /// As the kernel counts them.
    told: u64,
    at: Option<Instant>,
}

impl Refusals {
    /// How many are to be told.
    fn grow(&mut self, counted: Option<u64>, now: Instant, interval: Duration) -> Option<u64> {
        let count = counted?.checked_sub(self.told).filter(|count| *count > 0)?;
        if self.at.is_some_and(|at| now < at + interval) {
            return None;
        }
        *self = Self { told: counted?, at: Some(now) };
        Some(count)
    }
}

/// What was told of a process.
#[derive(Clone, Debug)]
pub(super) struct Alarms {
    memory: Alarm,
    pids: Alarm,
    cpu: Alarm,
    storage: Alarm,
    pids_refused: Refusals,
    oom: Refusals,
    /// How often it was out of memory when a sample was taken last: who dies of that is gone by the next.
    survived: Option<u64>,
    /// From when on periods are counted.
    periods_from: Look,
}

impl Alarms {
    /// Nothing is told of what was before the first look.
    pub(super) fn new(first: &Look) -> Self {
        let told = |counted: Option<u64>| Refusals { told: counted.unwrap_or_default(), at: None };
        Self {
            memory: Alarm::default(),
            pids: Alarm::default(),
            cpu: Alarm::default(),
            storage: Alarm::default(),
            pids_refused: told(first.limit_events.pids_refused),
            oom: told(first.limit_events.oom),
            survived: None,
            periods_from: *first,
        }
    }

    /// Those of the next process: what it keeps on disk is what the one before kept.
    pub(super) fn next(&self, first: &Look) -> Self {
        Self { storage: self.storage, ..Self::new(first) }
    }

    /// What can be told at any moment.
    pub(super) fn look(&mut self, look: &Look, interval: Duration) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let (usage, bounds) = (look.usage, look.bounds);
        if let (Some(used), Some(limit)) = (usage.memory_working_set_bytes, bounds.memory_bytes)
            && self.memory.rises(Pressure::of(used, limit))
        {
            let message = format!(
                "more than nine tenths of its memory of {} are used, page cache that can be taken back \
                 not counted; at the limit it is killed: see `memory` in [limits]",
                ByteSize::new(limit)
            );
            warnings.push(near("memory", limit, used, message));
        }
        let (Some(used), Some(limit)) = (usage.pids, bounds.pids) else { return warnings };
        if self.pids.rises(Pressure::of(used, limit)) {
            let message = format!(
                "{used} processes and threads of {limit} are there, the compartment's init included; \
                 no more than that can be made: see `pids` in [limits]"
            );
            warnings.push(near("pids", limit, used, message));
        }
        let refused = look.limit_events.pids_refused;
        if let Some(count) = self.pids_refused.grow(refused, look.at, interval) {
            let message = format!(
                "it was refused a process or a thread ({}): it may have {limit}, the \
                 compartment's init included; see `pids` in [limits]",
                times(count)
            );
            let (exhausted, count) = (true, Some(count));
            warnings.push(Warning { exhausted, resource: "pids", limit, used, count, message });
        }
        warnings
    }

    /// What can be told of a whole interval.
    pub(super) fn sample(&mut self, look: &Look, interval: Duration) -> Vec<Warning> {
        let mut warnings = self.look(look, interval);
        warnings.extend(self.throttled(look));
        let survived = std::mem::replace(&mut self.survived, look.limit_events.oom);
        let (usage, bounds) = (look.usage, look.bounds);
        if let (Some(used), Some(limit)) = (usage.memory_bytes, bounds.memory_bytes)
            && let Some(count) = self.oom.grow(survived, look.at, interval)
        {
            let message = format!(
                "it needed more memory than its {} ({}), and lived on: part of it may not have; see \
                 `memory` in [limits]",
                ByteSize::new(limit),
                times(count)
            );
            let (exhausted, count) = (true, Some(count));
            warnings.push(Warning { exhausted, resource: "memory", limit, used, count, message });
        }
        warnings
    }

    /// Whether its CPU time ran out in at least half of the periods in which it wanted any; that is
    /// over when it does in less than a quarter.
    fn throttled(&mut self, look: &Look) -> Option<Warning> {
        let from = &self.periods_from;
        let counted = |of: fn(&Look) -> Option<u64>| since(of(from), of(look));
        let Some(periods) = counted(|look| look.limit_events.periods) else {
            self.periods_from = *look;
            return None;
        };
        if periods < PERIODS {
            return None;
        }
        let throttled = counted(|look| look.limit_events.throttled_periods)?;
        let used = look.cpu_percent(from)?.round() as u64;
        self.periods_from = *look;
        let pressure = match (throttled * 4).checked_div(periods)? {
            0 => Pressure::Low,
            1 => Pressure::Uneasy,
            _ => Pressure::Near,
        };
        let limit = look.bounds.cpu_percent?;
        self.cpu.rises(pressure).then(|| {
            let message = format!(
                "its CPU time of {limit}% ran out in {throttled} of {periods} periods of {} ms, and it \
                 was held back until the next: see `cpu` in [limits]",
                CpuShare::PERIOD_US / 1000
            );
            near("cpu", limit, used, message)
        })
    }

    /// What can be told of what it keeps on disk.
    pub(super) fn kept(&mut self, fill: &Fill) -> Option<Warning> {
        let Fill { pressure, resource, limit, used } = *fill;
        self.storage.rises(pressure).then(|| {
            let bound = match resource {
                "storage" => ByteSize::new(limit).to_string(),
                _ => format!("{limit} files"),
            };
            if pressure < Pressure::Full {
                let message = format!("more than nine tenths of its storage of {bound} are used");
                return near(resource, limit, used, message);
            }
            let message = format!(
                "its storage of {bound} is full: the file system refuses what it writes beyond (EDQUOT)"
            );
            Warning { exhausted: true, resource, limit, used, count: None, message }
        })
    }
}

fn near(resource: &'static str, limit: u64, used: u64, message: String) -> Warning {
    Warning { exhausted: false, resource, limit, used, count: None, message }
}

#[cfg(test)]
#[path = "alarms_tests.rs"]
mod tests;
