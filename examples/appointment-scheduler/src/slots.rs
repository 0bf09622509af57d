//! Free slots: what of the working hours nobody has taken.

use jiff::{SignedDuration, Timestamp};

use crate::clinic::{Clinic, Window};

/// The free slots of `duration` minutes within `range`, at most `limit`, and whether there are more.
///
/// Slots begin at opening time and then every `step` minutes, so that they fall on the hours people expect, whatever
/// odd minute an earlier appointment ended at. One that touches a busy window at its edge is free.
pub(crate) fn free(
    clinic: &Clinic,
    range: Window,
    duration: u32,
    step: u32,
    busy: &[Window],
    limit: usize,
) -> (Vec<Window>, bool) {
    let busy = merged(busy);
    let length = SignedDuration::from_mins(duration.into());
    let step = SignedDuration::from_mins(step.max(1).into());
    let mut found = Vec::new();
    for hours in clinic.dates(range).filter_map(|date| clinic.window(date)) {
        let mut start = hours.start;
        // Both lists are in order, so the busy ones that are over need not be looked at again.
        let mut rest = &busy[busy.partition_point(|window| window.end <= hours.start)..];
        while let Some(slot) = slot(start, length).filter(|slot| slot.end <= hours.end) {
            while rest.first().is_some_and(|window| window.end <= slot.start) {
                rest = &rest[1..];
            }
            let taken = rest.first().is_some_and(|window| window.overlaps(&slot));
            if range.contains(&slot) && !taken {
                if found.len() == limit {
                    return (found, true);
                }
                found.push(slot);
            }
            let Ok(next) = start.checked_add(step) else { break };
            start = next;
        }
    }
    (found, false)
}

/// The minutes of `window` that no busy window takes.
pub(crate) fn free_minutes(window: Window, busy: &[Window]) -> i64 {
    let taken: SignedDuration = merged(busy)
        .iter()
        .filter(|one| one.overlaps(&window))
        .map(|one| one.end.min(window.end).duration_since(one.start.max(window.start)))
        .fold(SignedDuration::ZERO, |sum, length| sum + length);
    (window.end.duration_since(window.start) - taken).as_mins()
}

fn slot(start: Timestamp, length: SignedDuration) -> Option<Window> {
    Some(Window { start, end: start.checked_add(length).ok()? })
}

/// The same time in order and without overlaps.
fn merged(windows: &[Window]) -> Vec<Window> {
    let mut windows = windows.to_vec();
    windows.sort_by_key(|window| window.start);
    let mut merged: Vec<Window> = Vec::with_capacity(windows.len());
    for window in windows {
        match merged.last_mut() {
            Some(last) if window.start <= last.end => last.end = last.end.max(window.end),
            _ => merged.push(window),
        }
    }
    merged
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
