//! The vocabulary of the lists: a line names calls, says for which arguments, and why.

/// Calls that belong together.
#[derive(Debug)]
pub struct List {
    /// The list's name, in one or two words.
    pub name: &'static str,
    /// What a compartment can do with it.
    pub purpose: &'static str,
    /// Its lines.
    pub lines: &'static [Line],
}

/// One decision about one or more calls.
#[derive(Debug)]
pub struct Line {
    /// The calls, by name. A call that this architecture lacks is skipped.
    pub calls: &'static [&'static str],
    /// What is decided.
    pub verdict: Verdict,
    /// What must hold of the compartment for the line to count.
    pub given: Given,
    /// Why.
    pub reason: &'static str,
}

/// What a line decides. Where lists that are composed name the same call, `Allow` outweighs `When`, the
/// clauses of several `When` are alternatives, and `Answer` says how the call is refused.
#[derive(Debug, Clone, Copy)]
pub enum Verdict {
    /// Whatever the arguments.
    Allow,
    /// When one of these clauses holds.
    When(&'static [Clause]),
    /// A refusal is an error instead of the process's death.
    Answer(Errno),
}

/// Checks that must all hold.
pub type Clause = &'static [Check];

/// An error number and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno {
    /// As in `errno(3)`.
    pub name: &'static str,
    /// The number, 1 to 4095.
    pub number: u16,
}

/// One comparison of one argument. Only the low 32 bits are compared: every argument that the lists check
/// is an `int`, or flags of which the kernel has none above bit 31.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// The argument's position, 0 to 5.
    pub index: u8,
    /// The argument's name in the manual page.
    pub argument: &'static str,
    /// The comparison.
    pub test: Test,
    /// The comparison as a person reads it, without the argument: `= AF_UNIX`.
    pub shown: (&'static str, &'static str, &'static str),
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// Equal.
    Is(u32),
    /// Not equal.
    IsNot(u32),
    /// The bits of the mask have this value.
    Bits {
        /// The bits that count.
        mask: u32,
        /// What they must be.
        value: u32,
    },
    /// At least, unsigned.
    AtLeast(u32),
    /// At most, unsigned.
    AtMost(u32),
}

/// What must hold of the compartment for a line to count; see [`Facts`](super::Facts).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// Nothing.
    Always,
    /// Landlock governs truncation (ABI 3).
    TruncateGoverned,
    /// Landlock does not govern truncation.
    TruncateUngoverned,
    /// A signal cannot leave the compartment: it has a pid namespace, or Landlock's scope (ABI 6).
    SignalsConfined,
    /// Nor can one to a thread: as above, or the uid is of this compartment alone, which the kernel looks at.
    ThreadSignalsConfined,
    /// No socket of the host is in reach by a path: a private root that shows no place of the machine, or
    /// Landlock's right (ABI 9).
    PathSocketsConfined,
    /// Nor is one by an abstract name: a network namespace besides, or Landlock's scope (ABI 6).
    LocalSocketsConfined,
    /// TCP is granted.
    Tcp,
    /// UDP is granted.
    Udp,
    /// TCP or UDP is granted.
    Internet,
}

/// A constant's value and its name, or several of them joined.
pub(super) type Named = (u32, &'static str);

/// Names constants of `libc`: `c!(AF_UNIX)`, `c!(PROT_WRITE | PROT_EXEC)`.
macro_rules! c {
    ($($constant:ident)|+) => {
        (0 $(| libc::$constant as u32)+, stringify!($($constant)|+))
    };
}
/// Names an error of `libc`: `e!(EPERM)`.
macro_rules! e {
    ($errno:ident) => {
        $crate::seccomp::line::Errno { name: stringify!($errno), number: libc::$errno as u16 }
    };
}
pub(super) use {c, e};

pub(super) const fn allow(calls: &'static [&'static str], reason: &'static str) -> Line {
    Line { calls, verdict: Verdict::Allow, given: Given::Always, reason }
}

pub(super) const fn when(
    calls: &'static [&'static str],
    clauses: &'static [Clause],
    reason: &'static str,
) -> Line {
    Line { calls, verdict: Verdict::When(clauses), given: Given::Always, reason }
}

pub(super) const fn answer(
    calls: &'static [&'static str],
    errno: Errno,
    reason: &'static str,
) -> Line {
    Line { calls, verdict: Verdict::Answer(errno), given: Given::Always, reason }
}

impl Line {
    pub(super) const fn given(self, given: Given) -> Self {
        Self { given, ..self }
    }
}

impl Check {
    const fn new(
        index: u8,
        argument: &'static str,
        test: Test,
        shown: (&'static str, &'static str, &'static str),
    ) -> Self {
        assert!(index < 6, "a system call has six arguments");
        Self { index, argument, test, shown }
    }
}

pub(super) const fn is(index: u8, argument: &'static str, value: Named) -> Check {
    Check::new(index, argument, Test::Is(value.0), ("= ", value.1, ""))
}

pub(super) const fn is_not(index: u8, argument: &'static str, value: Named) -> Check {
    Check::new(index, argument, Test::IsNot(value.0), ("≠ ", value.1, ""))
}

pub(super) const fn lacks(index: u8, argument: &'static str, mask: Named) -> Check {
    Check::new(index, argument, Test::Bits { mask: mask.0, value: 0 }, ("without ", mask.1, ""))
}

pub(super) const fn has(index: u8, argument: &'static str, mask: Named) -> Check {
    let test = Test::Bits { mask: mask.0, value: mask.0 };
    Check::new(index, argument, test, ("with ", mask.1, ""))
}

pub(super) const fn bits(index: u8, argument: &'static str, mask: Named, value: Named) -> Check {
    let test = Test::Bits { mask: mask.0, value: value.0 };
    Check::new(index, argument, test, (mask.1, " bits = ", value.1))
}

pub(super) const fn at_least(index: u8, argument: &'static str, value: Named) -> Check {
    Check::new(index, argument, Test::AtLeast(value.0), ("≥ ", value.1, ""))
}

pub(super) const fn at_most(index: u8, argument: &'static str, value: Named) -> Check {
    Check::new(index, argument, Test::AtMost(value.0), ("≤ ", value.1, ""))
}
