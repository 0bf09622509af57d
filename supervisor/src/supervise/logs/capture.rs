//! From a plugin's pipe through the spool into the book.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use super::line::{self, Source};
use super::rate::SHUT;
use super::spool::{self, Spool};
use super::{Book, Stream};

/// How long the pipe of a plugin that is over its limit is left alone after each time that it was
/// read. With the size of a pipe this bounds what a flood costs; the plugin waits meanwhile.
pub(super) const PACE: Duration = Duration::from_millis(10);

/// Copies the pipe into the book until `ended`, and then what the pipe still holds.
pub(crate) async fn capture(
    pipe: OwnedFd,
    of: Source,
    book: Book,
    ended: impl Future<Output = ()>,
) -> io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(&pipe, FcntlArg::F_GETFL)?);
    fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    #[expect(
        deprecated,
        reason = "its replacement is unsafe, for types that close early: OwnedFd does not"
    )]
    let pipe = AsyncFd::with_interest(pipe, Interest::READABLE)?;
    let mut ended = pin!(ended);
    let mut spool = Spool::open(&book, of)?;
    // A supervisor before this one may have moved bytes that it did not get to write down.
    spool.account(&book, false)?;
    let mut lost = Lost::new(of);
    // Before that the pipe is not read.
    let mut pause: Option<Instant> = None;
    // By then it is told what was dropped.
    let mut tell_by: Option<Instant> = None;
    loop {
        if spool.has_dropped() {
            tell_by.get_or_insert_with(|| Instant::now() + SHUT);
        } else {
            tell_by = None;
        }
        tokio::select! {
            biased;
            ready = pipe.readable(), if pause.is_none() => {
                let mut ready = ready?;
                match spool.fill(pipe.get_ref()) {
                    Ok(0) => break,
                    Ok(_) => {
                        if lost.note(&book, &mut spool) {
                            pause = Some(Instant::now() + PACE);
                        }
                    }
                    Err(Errno::EAGAIN) => ready.clear_ready(),
                    Err(Errno::EINTR) => {}
                    // What cannot be kept is thrown away and counted: a plugin that waits for its
                    // output to be read would stand still for ever.
                    Err(error) => match lost.discard(pipe.get_ref(), &book, error) {
                        Ok(0) => break,
                        Ok(_) => pause = Some(Instant::now() + PACE),
                        Err(Errno::EAGAIN) => ready.clear_ready(),
                        Err(error) => return Err(error.into()),
                    },
                }
                // A plugin that never stops writing must not keep its siblings from being heard.
                tokio::task::yield_now().await;
            }
            () = moment(pause), if pause.is_some() => pause = None,
            () = moment(tell_by), if tell_by.is_some() => {
                tell_by = None;
                if let Err(error) = spool.tell(&book) {
                    lost.tell(&error);
                }
            }
            () = &mut ended => {
                // What it wrote before it died. A left-over process that still writes is killed by
                // now; the bound is for one that the kernel is still taking apart.
                for _ in 0..64 {
                    match spool.fill(pipe.get_ref()) {
                        Ok(0) | Err(_) => break,
                        Ok(_) => lost.note(&book, &mut spool),
                    };
                }
                break;
            }
        }
    }
    spool.account(&book, true)?;
    std::fs::remove_file(&spool.path)
}

async fn moment(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Output that could not be kept.
struct Lost {
    of: Source,
    bytes: u64,
    /// Whether the log of the service has been told already.
    told: bool,
}

impl Lost {
    fn new(of: Source) -> Self {
        Self { of, bytes: 0, told: false }
    }

    /// Takes what the pipe holds and counts it; 0 at its end.
    fn discard(&mut self, pipe: &OwnedFd, book: &Book, cause: Errno) -> Result<usize, Errno> {
        let mut scratch = [0; 16 * 1024];
        let length = nix::unistd::read(pipe, &mut scratch)?;
        self.bytes += length as u64;
        book.lost(length as u64);
        self.tell(&cause);
        Ok(length)
    }

    fn tell(&mut self, cause: &dyn std::fmt::Display) {
        if !self.told {
            self.told = true;
            tracing::error!(%cause, "a plugin's output cannot be kept");
        }
    }

    /// Writes the new lines down, and once that works again, how much was lost before them. What
    /// cannot be written now is still in the spool and is tried again with the next line. Whether
    /// any line was over the limit.
    fn note(&mut self, book: &Book, spool: &mut Spool) -> bool {
        if self.bytes > 0 {
            // The record stands at the position up to which all must be accounted for.
            let told = spool.tell(book);
            match told.and_then(|()| book.tell(line::lost(self.bytes, self.of, spool.done()))) {
                Ok(()) => *self = Self::new(self.of),
                Err(error) => {
                    self.tell(&error);
                    return false;
                }
            }
        }
        match spool.account(book, false) {
            Ok(dropped) => dropped,
            Err(error) => {
                self.tell(&error);
                false
            }
        }
    }
}

/// Accounts for the spools that a supervisor before this one left behind of starts that have
/// ended, and removes them.
pub(crate) fn finish_spools(book: &Book, running: Option<u64>) -> io::Result<()> {
    let directory = book.directory();
    for stream in [Stream::Stdout, Stream::Stderr] {
        let mut generations: Vec<u64> =
            spool::find(&directory, stream)?.iter().map(|name| name.generation).collect();
        generations.dedup();
        for generation in generations.into_iter().filter(|g| Some(*g) != running) {
            let mut spool = Spool::open(book, Source { stream, generation })?;
            spool.account(book, true)?;
            std::fs::remove_file(&spool.path)?;
        }
    }
    Ok(())
}
