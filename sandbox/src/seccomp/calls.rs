//! The names and numbers of system calls.
//!
//! A list may name a call which only one architecture has (`open` on x86_64): elsewhere it is skipped. Both
//! tables are here, so that a misspelling is still found.

mod aarch64;
mod x86_64;

#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
compile_error!("there is no table of system calls for this architecture: add one to seccomp/calls");

/// A table of names and numbers, sorted by name.
type Calls = &'static [(&'static str, u32)];

/// The calls of the architecture that this program runs on.
#[cfg(target_arch = "x86_64")]
pub(super) static HERE: Calls = x86_64::CALLS;
/// The calls of the architecture that this program runs on.
#[cfg(target_arch = "aarch64")]
pub(super) static HERE: Calls = aarch64::CALLS;

/// The number of the call `name` on this architecture.
pub fn number(name: &str) -> Option<u32> {
    find(HERE, name)
}

/// The name of call `number` on this architecture: what the kernel's audit record leaves out.
pub fn name(number: u32) -> Option<&'static str> {
    HERE.iter().find(|(_, theirs)| *theirs == number).map(|(name, _)| *name)
}

/// Whether some architecture has a call of that name.
pub(super) fn exists(name: &str) -> bool {
    find(x86_64::CALLS, name).is_some() || find(aarch64::CALLS, name).is_some()
}

/// The highest number that the table knows. A higher one belongs to a kernel newer than the table.
pub(super) fn newest() -> u32 {
    HERE.iter().map(|(_, number)| *number).max().expect("the table is not empty")
}

/// The existing name nearest to `wrong`, when at most a third of it (and never more than three letters)
/// must change.
pub(super) fn nearest(wrong: &str) -> Option<&'static str> {
    let allowed = (wrong.len() / 3).clamp(1, 3);
    let wrong = wrong.to_ascii_lowercase();
    HERE.iter()
        .map(|(name, _)| (distance(&wrong, name), *name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

fn find(calls: Calls, name: &str) -> Option<u32> {
    let at = calls.binary_search_by_key(&name, |(theirs, _)| theirs).ok()?;
    Some(calls[at].1)
}

/// Levenshtein's distance, in bytes: system calls are ASCII.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests;
