//! systemd's journal, by its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>): one
//! datagram is one entry with its fields.
//!
//! A journal that is full, or away, keeps nobody waiting: what it does not take at once is an error.
//! Entries here are bounded well below what a datagram may hold, so none has to go by a file.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::sys::stat::fstat;

pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";
/// Set by systemd for a service whose output goes to the journal: the device and inode number of the
/// stream (systemd.exec(5)).
pub(crate) const STREAM_VARIABLE: &str = "JOURNAL_STREAM";

/// How severe, as in syslog(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    Error = 3,
    Warning = 4,
    Info = 6,
    Debug = 7,
}

/// An entry that grows.
pub(crate) struct Entry(Vec<u8>);

impl Entry {
    pub(crate) fn new(message: &str, priority: Priority, identifier: &str) -> Self {
        Self(Vec::new())
            .with("MESSAGE", message)
            .with("PRIORITY", &(priority as u8).to_string())
            .with("SYSLOG_IDENTIFIER", identifier)
    }

    /// `name` is of `A-Z`, `0-9` and `_`, and begins with a letter: others the journal drops.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let Self(bytes) = &mut self;
        bytes.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            // Its length says where it ends, so that no value can begin another field.
            bytes.push(b'\n');
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
        self
    }
}

/// The journal.
pub(crate) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    pub(crate) fn open() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// An error where it is not taken at once. The socket is looked up each time, as the journal may
    /// have been started anew.
    pub(crate) fn send(&self, entry: &Entry) -> io::Result<()> {
        self.socket.send_to(&entry.0, &self.path).map(drop)
    }
}

/// Whether what this process writes on standard error goes to the journal.
pub(crate) fn has_our_output() -> bool {
    let Ok(stream) = std::env::var(STREAM_VARIABLE) else { return false };
    let standard_error = io::stderr();
    fstat(standard_error.as_fd())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A journal of one's own.
    pub(crate) fn journal(directory: &Path) -> (Journal, UnixDatagram) {
        let path = directory.join("journal");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        (Journal::at(&path).unwrap(), socket)
    }

    /// The next entry, as journald reads it; fails where there is none.
    pub(crate) fn next(socket: &UnixDatagram) -> BTreeMap<String, String> {
        let mut bytes = vec![0; 64 * 1024];
        let length = socket.recv(&mut bytes).unwrap();
        let mut rest = &bytes[..length];
        let mut fields = BTreeMap::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
            let line = std::str::from_utf8(&rest[..end]).unwrap();
            rest = &rest[end + 1..];
            let (name, value) = if let Some((name, value)) = line.split_once('=') {
                (name, value.to_owned())
            } else {
                let (length, behind) = rest.split_first_chunk().unwrap();
                let (value, behind) = behind.split_at(u64::from_le_bytes(*length) as usize);
                rest = behind.strip_prefix(b"\n").unwrap();
                (line, String::from_utf8(value.to_vec()).unwrap())
            };
            fields.insert(name.to_owned(), value);
        }
        fields
    }

    #[test]
    fn a_value_cannot_begin_another_field() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, socket) = journal(directory.path());
        let entry = Entry::new("two\nMESSAGE=lines", Priority::Warning, "x").with("EMPTY", "");
        journal.send(&entry).unwrap();
        let fields = next(&socket);
        assert_eq!(fields["MESSAGE"], "two\nMESSAGE=lines");
        assert_eq!(fields["PRIORITY"], "4");
        assert_eq!((fields["SYSLOG_IDENTIFIER"].as_str(), fields["EMPTY"].as_str()), ("x", ""));
        assert_eq!(fields.len(), 4);
    }

    #[test]
    fn a_journal_that_is_full_or_away_keeps_nobody_waiting_and_may_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, socket) = journal(directory.path());
        let entry = Entry::new(&"x".repeat(1000), Priority::Info, "x");
        let full = (0..100_000).find_map(|_| journal.send(&entry).err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        drop(socket);
        journal.send(&entry).unwrap_err();
        let path = directory.path().join("journal");
        std::fs::remove_file(&path).unwrap();
        journal.send(&entry).unwrap_err();
        let socket = UnixDatagram::bind(&path).unwrap();
        journal.send(&entry).unwrap();
        assert_eq!(next(&socket)["PRIORITY"], "6");
    }
}
