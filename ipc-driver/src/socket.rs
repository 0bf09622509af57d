//! A Unix stream socket that is only woken when there is something to do.
//!
//! A socket that is registered for reading and writing, as tokio's own is, is reported writable
//! every time the peer takes bytes out of it: an idle caller is woken twice for every call, once
//! for nothing. This one asks for readability, and for writability only after a write was refused.

use std::io::{self, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// Writes that are taken at once before the socket stops asking for writability again: bulk data
/// is refused every few writes, and asking anew each time costs two system calls.
const QUIET_WRITES: u32 = 64;

/// A connected Unix stream socket for [`crate::connect`].
#[derive(Debug)]
pub struct Socket {
    reader: AsyncFd<UnixStream>,
    /// A duplicate, registered for writability while writes are being refused.
    writer: Option<AsyncFd<UnixStream>>,
    quiet: u32,
}

impl Socket {
    /// Takes over a connected socket and makes it non-blocking. Needs a tokio runtime around it.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let reader = register(stream, Interest::READABLE)?;
        Ok(Self { reader, writer: None, quiet: 0 })
    }

    fn poll_write_with(
        &mut self,
        context: &mut Context<'_>,
        write: impl Fn(&UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let Some(writer) = &self.writer else {
            return match write(self.reader.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let duplicate = self.reader.get_ref().try_clone()?;
                    self.writer = Some(register(duplicate, Interest::WRITABLE)?);
                    self.quiet = 0;
                    self.poll_write_with(context, write)
                }
                result => Poll::Ready(result),
            };
        };
        loop {
            let mut ready = ready!(writer.poll_write_ready(context))?;
            if let Ok(result) = ready.try_io(|writer| write(writer.get_ref())) {
                self.quiet += 1;
                if self.quiet == QUIET_WRITES {
                    self.writer = None;
                }
                return Poll::Ready(result);
            }
            self.quiet = 0;
        }
    }
}

/// Registers a socket with the runtime.
#[allow(
    deprecated,
    reason = "its replacement is unsafe, for descriptors that do not own themselves"
)]
fn register(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    // What makes this call unsound for some types cannot happen here: a `UnixStream` owns its
    // descriptor, always answers with the same one, and lives inside the `AsyncFd`.
    AsyncFd::with_interest(stream, interest)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let buffer = target.initialize_unfilled();
        let wanted = buffer.len();
        loop {
            let mut ready = ready!(self.reader.poll_read_ready(context))?;
            match ready.get_inner().read(buffer) {
                Ok(count) => {
                    // A short read has emptied the socket; what comes later is reported anew.
                    if 0 < count && count < wanted {
                        ready.clear_ready();
                    }
                    target.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |mut stream| stream.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |mut stream| stream.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.reader.get_ref().shutdown(std::net::Shutdown::Write))
    }
}
