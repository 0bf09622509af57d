//! From rules to BPF.
//!
//! `seccompiler` compares the call's number with every rule's in turn, which the kernel pays for at each
//! start (it runs the filter once for every number, to build its bitmap of calls that are always allowed),
//! and knows two actions only. So the dispatch is our own, and what it leads to, the rules on one call's
//! arguments, is `seccompiler`'s, except where an argument must be one of several values.
//!
//! ```text
//! architecture ── x32 ── tree over ranges of numbers ─┬─ return a verdict
//!                                                     └─ argument rules of one call ── return a verdict
//! ```
//!
//! Every instruction costs about 0.2 µs of the start, so verdicts are shared: see `assembler.rs`.

use libc::{
    BPF_JEQ, BPF_JGE, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, sock_filter,
};
use seccompiler::{BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::assembler::{Assembler, Place};
use super::calls;
use super::line::{Check, Clause, Test};
use super::rules::{Rule, Rules};

/// The architecture's name in `struct seccomp_data`. Source: `linux/audit.h`.
#[cfg(target_arch = "x86_64")]
pub(super) const ARCHITECTURE: u32 = 0xc000_003e;
/// The architecture's name in `struct seccomp_data`. Source: `linux/audit.h`.
#[cfg(target_arch = "aarch64")]
pub(super) const ARCHITECTURE: u32 = 0xc000_00b7;

/// The bit that marks a call of the x32 ABI; no other call's number reaches it.
pub(super) const X32: u32 = 0x4000_0000;

/// Where `struct seccomp_data` has its fields. Source: `linux/seccomp.h`.
mod offset {
    pub(super) const NUMBER: u32 = 0;
    pub(super) const ARCHITECTURE: u32 = 4;
    /// The low word of an argument. Both architectures are little-endian.
    pub(super) const fn argument(index: u8) -> u32 {
        16 + 8 * index as u32
    }
}

/// The verdict on a call, as the kernel reads it.
pub(super) const ALLOW: u32 = SECCOMP_RET_ALLOW;
/// The verdict on a call, as the kernel reads it.
pub(super) const KILL: u32 = SECCOMP_RET_KILL_PROCESS;
/// The verdict on a call, as the kernel reads it: whoever has the listener decides.
pub(super) const ASK: u32 = libc::SECCOMP_RET_USER_NOTIF;
/// The verdict on a call, as the kernel reads it.
pub(super) const fn refuse(errno: u16) -> u32 {
    SECCOMP_RET_ERRNO | errno as u32
}

/// The filter for `rules`, at most 4096 instructions.
pub(super) fn assemble(rules: &Rules) -> Vec<sock_filter> {
    let mut program = Assembler::default();
    // The end first: a jump only goes forward.
    let places: Vec<(u32, Place)> = ranges(rules)
        .into_iter()
        .map(|(start, answer)| match answer {
            Answer::Verdict(action) => (start, Place::Verdict(action)),
            Answer::Arguments(rule) => (start, block(rule, &mut program)),
        })
        .collect();
    let search = tree(&places, &mut program);
    // Above any number of this ABI; x32's among them, which reach the same kernel functions by other numbers.
    program.jump(BPF_JGE, X32, Place::Verdict(KILL), search);
    let number = program.load(offset::NUMBER);
    program.jump(BPF_JEQ, ARCHITECTURE, number, Place::Verdict(KILL));
    program.load(offset::ARCHITECTURE);
    program.finish()
}

/// What is done from some number on.
#[derive(Clone, Copy)]
enum Answer<'a> {
    Verdict(u32),
    Arguments(&'a Rule),
}

/// All call numbers, in ranges of the same target: where each begins.
fn ranges(rules: &Rules) -> Vec<(u32, Answer<'_>)> {
    let mut known = vec![false; calls::newest() as usize + 1];
    for (_, number) in calls::HERE {
        known[*number as usize] = true;
    }
    let mut ranges: Vec<(u32, Answer<'_>)> = Vec::new();
    // One past the newest, so that the last range is that of the unknown.
    for number in 0..=calls::newest() + 1 {
        let target = match rules.get(number) {
            Some(rule) if rule.allow => Answer::Verdict(ALLOW),
            Some(rule) if !rule.clauses.is_empty() => Answer::Arguments(rule),
            Some(rule) => Answer::Verdict(refusal(rule)),
            None if known.get(number as usize) == Some(&true) => Answer::Verdict(KILL),
            None => Answer::Verdict(refuse(libc::ENOSYS as u16)),
        };
        let same = match (ranges.last(), target) {
            (Some((_, Answer::Verdict(last))), Answer::Verdict(this)) => *last == this,
            _ => false,
        };
        if !same {
            ranges.push((number, target));
        }
    }
    ranges
}

/// The search for the number among ranges, each with its beginning.
fn tree(ranges: &[(u32, Place)], program: &mut Assembler) -> Place {
    if let [(_, place)] = ranges {
        return *place;
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let above = tree(high, program);
    let below = tree(low, program);
    program.jump(BPF_JGE, high[0].0, above, below)
}

/// The argument rules of one call: the first clause that holds allows it.
fn block(rule: &Rule, program: &mut Assembler) -> Place {
    let mut next = Place::Verdict(refusal(rule));
    let same_argument = |a: &Clause, b: &Clause| value(a).is_some() && argument(a) == argument(b);
    let groups: Vec<&[Clause]> = rule.clauses.chunk_by(same_argument).collect();
    for group in groups.into_iter().rev() {
        match argument(&group[0]) {
            // One of several values: the argument is loaded once for all.
            Some(index) => {
                for value in group.iter().rev().filter_map(value) {
                    next = program.jump(BPF_JEQ, value, Place::Verdict(ALLOW), next);
                }
                next = program.load(offset::argument(index));
            }
            None => next = clause(group[0], next, program),
        }
    }
    next
}

/// The value and argument of a clause that is one comparison with one value.
fn value(clause: &Clause) -> Option<u32> {
    match clause {
        [Check { test: Test::Is(value), .. }] => Some(*value),
        _ => None,
    }
}

fn argument(clause: &Clause) -> Option<u8> {
    value(clause).map(|_| clause[0].index)
}

/// Any clause, compiled by `seccompiler`: it goes on to the next instruction where it holds, and past that one
/// where it does not.
fn clause(clause: Clause, otherwise: Place, program: &mut Assembler) -> Place {
    let compiled: BpfProgram = condition(clause).into();
    // A rule begins with two jumps that serve rules of more than 255 instructions: over the second, and to the
    // next rule. Ours are short.
    debug_assert!(compiled.len() < 200, "a clause of {} instructions", compiled.len());
    program.go(otherwise);
    program.verdict(ALLOW);
    let own = compiled[2..].iter();
    program.append(own.map(|from| sock_filter {
        code: from.code,
        jt: from.jt,
        jf: from.jf,
        k: from.k,
    }))
}

/// A clause as `seccompiler` has it.
pub(super) fn condition(clause: Clause) -> SeccompRule {
    let conditions = clause.iter().map(comparison).collect();
    SeccompRule::new(conditions).expect("a test sees to it that no clause is empty")
}

fn comparison(check: &Check) -> SeccompCondition {
    let (operator, value) = match check.test {
        Test::Is(value) => (SeccompCmpOp::Eq, value),
        Test::IsNot(value) => (SeccompCmpOp::Ne, value),
        Test::Bits { mask, value } => (SeccompCmpOp::MaskedEq(mask.into()), value),
        Test::AtLeast(value) => (SeccompCmpOp::Ge, value),
        Test::AtMost(value) => (SeccompCmpOp::Le, value),
    };
    SeccompCondition::new(check.index, SeccompCmpArgLen::Dword, operator, value.into())
        .expect("a check's constructor sees to its index")
}

fn refusal(rule: &Rule) -> u32 {
    if rule.asked { ASK } else { rule.answer.map_or(KILL, |errno| refuse(errno.number)) }
}
