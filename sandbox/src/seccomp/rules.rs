//! Lists composed: for every call number, one decision.

use std::collections::BTreeMap;

use super::line::{Clause, Errno, List, Verdict};
use super::{Facts, calls};

/// What is decided for one call.
#[derive(Debug, Clone, Default)]
pub(super) struct Rule {
    /// Allowed for all arguments.
    pub(super) allow: bool,
    /// Allowed when one of these holds.
    pub(super) clauses: Vec<Clause>,
    /// Some line looks at its arguments, be it one that does not count here.
    pub(super) guarded: bool,
    /// The error that refuses it, instead of the process's death.
    pub(super) answer: Option<Errno>,
    /// What is not allowed is put to whoever has the filter's listener.
    pub(super) asked: bool,
}

/// The decisions of some lists, by call number. A number that is not in it kills, or is unknown.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules(BTreeMap<u32, Rule>);

impl Rules {
    /// Composes `lists`. A later answer replaces an earlier one.
    pub(super) fn of(lists: &[&List], facts: Facts) -> Self {
        let mut rules: BTreeMap<u32, Rule> = BTreeMap::new();
        for line in lists.iter().flat_map(|list| list.lines) {
            let counts = facts.meet(line.given);
            let guards = matches!(line.verdict, Verdict::When(_));
            if !counts && !guards {
                continue;
            }
            for number in line.calls.iter().filter_map(|call| calls::number(call)) {
                let rule = rules.entry(number).or_default();
                rule.guarded |= guards;
                match line.verdict {
                    _ if !counts => {}
                    Verdict::Allow => rule.allow = true,
                    Verdict::When(clauses) => rule.clauses.extend_from_slice(clauses),
                    Verdict::Answer(errno) => rule.answer = Some(errno),
                }
            }
        }
        Self(rules)
    }

    /// Allows call `number`: under the argument rules that `broadest` has for it, or for all arguments where
    /// it has none.
    pub(super) fn add(&mut self, number: u32, broadest: &Self) {
        let rule = self.0.entry(number).or_default();
        match broadest.0.get(&number) {
            Some(guarded) if !guarded.allow && guarded.guarded => *rule = guarded.clone(),
            _ => rule.allow = true,
        }
    }

    /// Refuses by `errno` every call of this architecture of which nothing is decided, but for those that
    /// are to `kill`.
    pub(super) fn refuse_rest(&mut self, errno: Errno, kill: impl Fn(&str) -> bool) {
        for (_, number) in calls::HERE.iter().filter(|(call, _)| !kill(call)) {
            let rule = self.0.entry(*number).or_default();
            if !rule.allow && rule.clauses.is_empty() {
                rule.answer = rule.answer.or(Some(errno));
            }
        }
    }

    /// Puts every call of this architecture that is not allowed to whoever has the listener, and those that
    /// are to be `seen` even where they are allowed. What is `settled` keeps its error.
    pub(super) fn ask(&mut self, seen: impl Fn(&str) -> bool, settled: impl Fn(&str) -> bool) {
        for (call, number) in calls::HERE {
            let rule = self.0.entry(*number).or_default();
            if seen(call) {
                *rule = Rule { asked: true, ..Rule::default() };
            } else {
                rule.asked = rule.answer.is_none() || !settled(call);
            }
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<&Rule> {
        self.0.get(&number)
    }
}

#[cfg(test)]
impl Rules {
    pub(super) fn from_map(rules: BTreeMap<u32, Rule>) -> Self {
        Self(rules)
    }
}
