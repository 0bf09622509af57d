//! From rules to BPF.
//!
//! `seccompiler` compares the call's number with every rule's in turn, which the kernel pays for at each
//! start (it runs the filter once for every number, to build its bitmap of calls that are always allowed),
//! and knows two actions only. So the dispatch is our own, and what it leads to, the rules on one call's
//! arguments, is `seccompiler`'s.
//!
//! ```text
//! architecture ── x32 ── tree over ranges of numbers ─┬─ return a verdict
//!                                                     └─ argument rules of one call ── return a verdict
//! ```
//!
//! A conditional jump of BPF reaches 255 instructions, an unconditional one any distance; jumps only go
//! forward. Source: `Documentation/networking/filter.rst`.

use libc::{
    BPF_ABS, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, sock_filter,
};
use seccompiler::{BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::calls;
use super::line::{Check, Clause, Errno, Test};
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
}

/// The verdict on a call, as the kernel reads it.
pub(super) const ALLOW: u32 = SECCOMP_RET_ALLOW;
/// The verdict on a call, as the kernel reads it.
pub(super) const KILL: u32 = SECCOMP_RET_KILL_PROCESS;
/// The verdict on a call, as the kernel reads it.
pub(super) const fn refuse(errno: u16) -> u32 {
    SECCOMP_RET_ERRNO | errno as u32
}

/// The filter for `rules`, at most 4096 instructions.
pub(super) fn assemble(rules: &Rules) -> Vec<sock_filter> {
    let ranges = ranges(rules);
    let mut program = vec![
        load(offset::ARCHITECTURE),
        jump(BPF_JEQ, ARCHITECTURE, 1, 0),
        verdict(KILL),
        load(offset::NUMBER),
        // Above any number of this ABI; x32's among them, which reach the same kernel functions by other
        // numbers.
        jump(BPF_JGE, X32, 0, 1),
        verdict(KILL),
    ];
    let mut blocks = Vec::new();
    tree(&ranges, &mut program, &mut blocks);
    for (from, rule) in blocks {
        let distance = program.len() - from - 1;
        program[from].k = u32::try_from(distance).expect("a program has at most 4096 instructions");
        block(rule, &mut program);
    }
    program
}

/// What is done from some number on.
#[derive(Clone, Copy)]
enum Target<'a> {
    Verdict(u32),
    Arguments(&'a Rule),
}

/// All call numbers, in ranges of the same target: where each begins.
fn ranges(rules: &Rules) -> Vec<(u32, Target<'_>)> {
    let mut known = vec![false; calls::newest() as usize + 1];
    for (_, number) in calls::HERE {
        known[*number as usize] = true;
    }
    let mut ranges: Vec<(u32, Target<'_>)> = Vec::new();
    // One past the newest, so that the last range is that of the unknown.
    for number in 0..=calls::newest() + 1 {
        let target = match rules.get(number) {
            Some(rule) if rule.allow => Target::Verdict(ALLOW),
            Some(rule) if !rule.clauses.is_empty() => Target::Arguments(rule),
            Some(rule) => Target::Verdict(refusal(rule.answer)),
            None if known.get(number as usize) == Some(&true) => Target::Verdict(KILL),
            None => Target::Verdict(refuse(libc::ENOSYS as u16)),
        };
        let same = match (ranges.last(), target) {
            (Some((_, Target::Verdict(last))), Target::Verdict(this)) => *last == this,
            _ => false,
        };
        if !same {
            ranges.push((number, target));
        }
    }
    ranges
}

/// Appends the search for the number, and notes where a block of argument rules must follow: the index of
/// the jump to it.
fn tree<'a>(
    ranges: &[(u32, Target<'a>)],
    program: &mut Vec<sock_filter>,
    blocks: &mut Vec<(usize, &'a Rule)>,
) {
    if let [(_, target)] = ranges {
        match target {
            Target::Verdict(action) => program.push(verdict(*action)),
            Target::Arguments(rule) => {
                blocks.push((program.len(), rule));
                program.push(go(0));
            }
        }
        return;
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let mut left = Vec::new();
    let mut left_blocks = Vec::new();
    tree(low, &mut left, &mut left_blocks);
    let boundary = high[0].0;
    if let Ok(near) = u8::try_from(left.len()) {
        program.push(jump(BPF_JGE, boundary, near, 0));
    } else {
        program.push(jump(BPF_JGE, boundary, 0, 1));
        program.push(go(left.len() as u32));
    }
    let base = program.len();
    blocks.extend(left_blocks.into_iter().map(|(from, rule)| (base + from, rule)));
    program.append(&mut left);
    tree(high, program, blocks);
}

/// Appends the argument rules of one call: the first clause that holds allows it.
fn block(rule: &Rule, program: &mut Vec<sock_filter>) {
    for clause in &rule.clauses {
        let compiled: BpfProgram = condition(clause).into();
        // seccompiler begins each rule with two jumps that serve rules of more than 255 instructions: over
        // the second, and to the next rule. Ours are short.
        debug_assert!(compiled.len() < 200, "a clause of {} instructions", compiled.len());
        program.extend(compiled[2..].iter().map(|from| sock_filter {
            code: from.code,
            jt: from.jt,
            jf: from.jf,
            k: from.k,
        }));
        program.push(verdict(ALLOW));
    }
    program.push(verdict(refusal(rule.answer)));
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

fn refusal(answer: Option<Errno>) -> u32 {
    answer.map_or(KILL, |errno| refuse(errno.number))
}

fn load(offset: u32) -> sock_filter {
    sock_filter { code: (BPF_LD | BPF_W | BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

fn jump(comparison: u32, value: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | comparison | BPF_K) as u16, jt, jf, k: value }
}

fn go(distance: u32) -> sock_filter {
    sock_filter { code: (BPF_JMP | BPF_JA) as u16, jt: 0, jf: 0, k: distance }
}

fn verdict(action: u32) -> sock_filter {
    sock_filter { code: (BPF_RET | BPF_K) as u16, jt: 0, jf: 0, k: action }
}
