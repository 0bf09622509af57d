//! Telling the service manager how the service is: sd_notify(3), a datagram of `KEY=value` lines.

use std::env;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager's socket. Without `NOTIFY_SOCKET` every message is dropped.
#[derive(Debug, Default)]
pub(super) struct Notify {
    target: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// From `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` of the environment.
    pub(super) fn from_environment() -> Self {
        let ours =
            env::var("WATCHDOG_PID").map_or(true, |pid| pid.parse() == Ok(std::process::id()));
        let watchdog = env::var("WATCHDOG_USEC")
            .ok()
            .filter(|_| ours)
            .and_then(|text| text.parse().ok())
            .filter(|usec| *usec > 0)
            .map(Duration::from_micros);
        match env::var_os("NOTIFY_SOCKET") {
            Some(name) => Self::to(&name, watchdog),
            None => Self::default(),
        }
    }

    /// `name` is a path, or `@` and an abstract name.
    fn to(name: &OsStr, watchdog: Option<Duration>) -> Self {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(name),
        };
        let target = address.and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            // A service manager that does not read must not hold up the launcher.
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        });
        match target {
            Ok(target) => Self { target: Some(target), watchdog },
            Err(error) => {
                tracing::warn!(socket = %name.display(), %error, "cannot notify the service manager");
                Self::default()
            }
        }
    }

    /// How often [`Notify::alive`] is due: half of what the service manager allows.
    pub(super) fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.target
            && let Err(error) = socket.send_to_addr(message.as_bytes(), address)
        {
            tracing::warn!(%error, message, "the service manager was not notified");
        }
    }

    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    pub(super) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// One line for `systemctl status`.
    pub(super) fn status(&self, line: &str) {
        self.send(&format!("STATUS={}", line.replace('\n', " ")));
    }

    /// Asks for `span` more before the service manager calls the start or stop hung.
    pub(super) fn extend(&self, span: Duration) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}", span.as_micros()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_socket_with_a_path_hears_every_message() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let server = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::to(path.as_os_str(), Some(Duration::from_secs(10)));
        assert_eq!(notify.watchdog_interval(), Some(Duration::from_secs(5)));
        notify.ready();
        notify.status("two\nlines");
        notify.alive();
        notify.extend(Duration::from_millis(3));
        notify.stopping();
        for expected in
            ["READY=1", "STATUS=two lines", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=3000", "STOPPING=1"]
        {
            assert_eq!(receive(&server), expected);
        }
    }

    #[test]
    fn an_abstract_socket_is_written_with_an_at_sign() {
        let name = format!("bulkhead-notify-{}", std::process::id());
        let server =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notify::to(OsStr::new(&format!("@{name}")), None).ready();
        assert_eq!(receive(&server), "READY=1");
    }

    #[test]
    fn a_manager_that_is_away_or_does_not_read_holds_nothing_up() {
        Notify::to(OsStr::new("/nonexistent/notify"), None).ready();
        let name = format!("bulkhead-deaf-{}", std::process::id());
        let server =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notify = Notify::to(OsStr::new(&format!("@{name}")), None);
        for _ in 0..10_000 {
            notify.alive();
        }
        drop(server);
    }
}
