//! A machine for classic BPF, as far as seccomp filters need it, written from
//! `Documentation/networking/filter.rst` and not from our assembler.

use libc::sock_filter;

/// What a filter sees of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) architecture: u32,
    pub(super) number: u32,
    pub(super) arguments: [u64; 6],
}

impl Call {
    /// `struct seccomp_data`, little-endian: the low word of an argument comes first.
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.architecture,
            16..64 if offset.is_multiple_of(4) => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
            _ => panic!("the filter reads at {offset}"),
        }
    }
}

/// A run's verdict, and how many instructions it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) action: u32,
    pub(super) steps: usize,
}

/// Runs `program` on `call`.
pub(super) fn run(program: &[sock_filter], call: &Call) -> Outcome {
    let mut accumulator = 0u32;
    let mut at = 0usize;
    for steps in 1..=program.len() {
        let instruction = program[at];
        let (jt, jf, k) = (usize::from(instruction.jt), usize::from(instruction.jf), instruction.k);
        at += 1;
        match instruction.code {
            0x20 => accumulator = call.word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += if accumulator == k { jt } else { jf },
            0x25 => at += if accumulator > k { jt } else { jf },
            0x35 => at += if accumulator >= k { jt } else { jf },
            0x45 => at += if accumulator & k != 0 { jt } else { jf },
            0x06 => return Outcome { action: k, steps },
            code => panic!("instruction {} has the unknown code {code:#x}", at - 1),
        }
    }
    panic!("the program never ends");
}
