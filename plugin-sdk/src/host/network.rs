//! Connections that the host makes for the plugin.

use std::collections::VecDeque;
use std::net::TcpStream as StdTcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bulkhead_ipc_protocol::Payload;
use bulkhead_ipc_protocol::host::{CONNECT, Connect, Connected};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::{CallOptions, Host};
use crate::error::{Error, Result, code};

/// Connections that nobody has taken yet; the oldest are closed.
const WAITING: usize = 32;

/// How long a connection that was made may take to come over the bootstrap socket.
const HANDED: Duration = Duration::from_secs(10);

/// TCP, to what the manifest's `[network] hosts` names and the operator granted.
///
/// The plugin itself has no network: its host looks at what is asked for, connects, and hands the connection over.
#[derive(Clone, Debug)]
pub struct Network {
    host: Host,
}

impl Network {
    pub(super) fn new(host: Host) -> Self {
        Self { host }
    }

    /// Connects to a pair, written as in the manifest: `fhir.example.org:443`, `[2001:db8::7]:5432`.
    ///
    /// It takes as long as the call that the plugin is answering has left, and 10 s at the most.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for a pair that is not granted; `CONNECT_FAILED` when nobody answers there;
    /// `RESOURCE_EXHAUSTED` when too many are being made; [`code::REQUEST_INVALID`] for what is no pair.
    pub async fn connect(&self, pair: &str) -> Result<TcpStream> {
        let payload = Payload::bincode(&parse(pair)?).map_err(Error::internal)?;
        // Not repeated where the session is lost: the first may have been made.
        let options = CallOptions::default();
        let reply = self.host.send(CONNECT.to_owned(), payload, false, options).await?;
        let Connected { token } = reply
            .decode_bincode()
            .map_err(|err| Error::new(code::REPLY_INVALID, format!("{CONNECT}: {err}")))?;
        // It is there by now, unless this process could not take another descriptor.
        let taken = tokio::time::timeout(HANDED, self.host.connections().take(token)).await;
        let stream = taken.map_err(|_| {
            let message = format!(
                "{pair}: the connection was made and did not arrive; are there descriptors left?"
            );
            Error::new("CONNECT_FAILED", message)
        })?;
        let usable = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        usable.map_err(Error::internal)
    }
}

fn parse(pair: &str) -> Result<Connect> {
    let bad = || {
        let message = format!("{pair:?} is not host:port; write for example fhir.example.org:443");
        Error::new(code::REQUEST_INVALID, message)
    };
    let (host, port) = pair.rsplit_once(':').ok_or_else(bad)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = bracketed.unwrap_or(host).to_owned();
    if host.is_empty() {
        return Err(bad());
    }
    Ok(Connect { host, port: port.parse().map_err(|_| bad())? })
}

/// Connections as they come over the bootstrap socket, until whoever asked for one takes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrivals(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: Mutex<VecDeque<(u64, StdTcpStream)>>,
    came: Notify,
}

impl Arrivals {
    pub(crate) fn arrived(&self, token: u64, stream: StdTcpStream) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() == WAITING {
            waiting.pop_front();
        }
        waiting.push_back((token, stream));
        drop(waiting);
        self.0.came.notify_waiters();
    }

    /// Waits for it. It is on its way when the host names its token, or there already.
    pub(crate) async fn take(&self, token: u64) -> StdTcpStream {
        loop {
            let came = self.0.came.notified();
            {
                let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(at) = waiting.iter().position(|(theirs, _)| *theirs == token)
                    && let Some((_, stream)) = waiting.remove(at)
                {
                    return stream;
                }
            }
            came.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_a_host_and_a_port() {
        let pair = |text: &str| parse(text).map(|Connect { host, port }| (host, port));
        assert_eq!(pair("db:5432").unwrap(), ("db".into(), 5432));
        assert_eq!(pair("[2001:db8::7]:5432").unwrap(), ("2001:db8::7".into(), 5432));
        for bad in ["", "db", ":1", "[]:1", "db:", "db:x", "db:65536"] {
            assert_eq!(pair(bad).unwrap_err().code(), code::REQUEST_INVALID, "{bad}");
        }
    }

    #[tokio::test]
    async fn what_nobody_takes_is_closed_in_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let arrivals = Arrivals::default();
        for token in 0..=WAITING as u64 {
            let stream = StdTcpStream::connect(listener.local_addr().unwrap()).unwrap();
            arrivals.arrived(token, stream);
        }
        let kept: Vec<_> = arrivals.0.waiting.lock().unwrap().iter().map(|(t, _)| *t).collect();
        assert_eq!(kept, (1..=WAITING as u64).collect::<Vec<_>>());
    }
}
