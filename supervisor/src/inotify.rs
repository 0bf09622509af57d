//! inotify(7) as a future.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches of files and directories, and what happens to them.
pub(crate) struct Notices(AsyncFd<Source>);

struct Source(Inotify);

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Notices {
    /// Must run inside the runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe, for types that close early: Inotify does not"
        )]
        AsyncFd::with_interest(Source(inotify), Interest::READABLE).map(Self)
    }

    pub(crate) fn watch(
        &self,
        path: &Path,
        flags: AddWatchFlags,
    ) -> Result<WatchDescriptor, Errno> {
        self.0.get_ref().0.add_watch(path, flags)
    }

    /// What happens next; dropped meanwhile, it forgets nothing.
    pub(crate) async fn next(&self) -> io::Result<Vec<InotifyEvent>> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.get_inner().0.read_events() {
                Ok(events) => return Ok(events),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
