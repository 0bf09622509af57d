//! A program of classic BPF, put together from its end.
//!
//! Jumps only go forward, and a conditional one reaches 255 instructions. Whoever writes from the end knows where
//! every target is, so a verdict is shared by all the jumps that reach it, and where a target is out of reach a
//! copy of the verdict, or a jump of any distance, is put in between. Source: the kernel's
//! `Documentation/networking/filter.rst`.

use libc::{BPF_ABS, BPF_JA, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

/// Somewhere to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A return of this action, wherever one is near.
    Verdict(u32),
    /// An instruction, counted from the end of the program.
    At(usize),
}

/// The instructions so far, the last one first.
#[derive(Default)]
pub(super) struct Assembler {
    backwards: Vec<sock_filter>,
    /// Where the newest copy of each verdict is.
    verdicts: Vec<(u32, usize)>,
}

impl Assembler {
    /// `if A comparison value { yes } else { no }`.
    pub(super) fn jump(&mut self, comparison: u32, value: u32, yes: Place, no: Place) -> Place {
        let (yes, no) = (self.near(yes), self.near(no));
        let here = self.backwards.len();
        let distance = |to: usize| u8::try_from(here - to - 1).expect("`near` saw to it");
        let (jt, jf) = (distance(yes), distance(no));
        self.push(BPF_JMP | comparison | BPF_K, jt, jf, value)
    }

    /// Loads the word at `offset` of `struct seccomp_data`, and goes on to what was put in last.
    pub(super) fn load(&mut self, offset: u32) -> Place {
        self.push(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset)
    }

    /// Ends with `action`.
    pub(super) fn verdict(&mut self, action: u32) -> Place {
        let here = self.push(BPF_RET | BPF_K, 0, 0, action);
        if let Place::At(at) = here {
            self.verdicts.retain(|(theirs, _)| *theirs != action);
            self.verdicts.push((action, at));
        }
        here
    }

    /// Makes `place` what was put in last, so that the next to be put in goes on to it.
    pub(super) fn go(&mut self, place: Place) {
        match place {
            Place::Verdict(action) => {
                self.verdict(action);
            }
            Place::At(at) if at + 1 == self.backwards.len() => {}
            Place::At(at) => {
                let distance = self.backwards.len() - at - 1;
                let distance = u32::try_from(distance).expect("a program is short");
                self.push(BPF_JMP | BPF_JA, 0, 0, distance);
            }
        }
    }

    /// Puts in instructions that go on to what was put in last.
    pub(super) fn append(&mut self, code: impl DoubleEndedIterator<Item = sock_filter>) -> Place {
        self.backwards.extend(code.rev());
        Place::At(self.backwards.len() - 1)
    }

    /// The program.
    pub(super) fn finish(self) -> Vec<sock_filter> {
        let mut program = self.backwards;
        program.reverse();
        program
    }

    /// The index of `place`, or of something put in that leads there, within reach of a conditional jump that
    /// comes next or next but one.
    fn near(&mut self, place: Place) -> usize {
        let reachable = |at: &usize| self.backwards.len() - at < usize::from(u8::MAX);
        let known = match place {
            Place::Verdict(action) => {
                self.verdicts.iter().find(|(theirs, _)| *theirs == action).map(|(_, at)| *at)
            }
            Place::At(at) => Some(at),
        };
        if let Some(at) = known.filter(reachable) {
            return at;
        }
        self.go(place);
        self.backwards.len() - 1
    }

    fn push(&mut self, code: u32, jt: u8, jf: u8, k: u32) -> Place {
        self.backwards.push(sock_filter { code: code as u16, jt, jf, k });
        Place::At(self.backwards.len() - 1)
    }
}
