//! The listening socket: who is let in, and how many.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use interprocess::local_socket::tokio::{Listener as LocalListener, Stream, prelude::*};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

use super::caller::{Caller, Role, Roles};
use crate::failure::{Code, Failure};
use crate::supervise::audit::{Audit, Entry};

/// How many connections a user may have at a time, and all users but root together; each takes a
/// descriptor, of which there may be 1024.
const OF_ONE: usize = 64;
const OF_ALL: usize = 192;
/// How many root may have, and the launcher's own user, besides.
const OF_ROOT: usize = 256;
/// How long to wait after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many clients are told at a time that they are not let in; more are hung up on. So
/// nobody without a role can take the descriptors of those who have one.
const STRANGERS: usize = 16;
/// How long such a one may take to send a request and to read the refusal.
const PATIENCE: Duration = Duration::from_secs(1);

/// The admin socket, and who may do what on it.
pub(super) struct AdminListener {
    listener: LocalListener,
    roles: Roles,
    strangers: Arc<Semaphore>,
    connections: Arc<Connections>,
    audit: Audit,
}

impl AdminListener {
    pub(super) fn new(listener: OwnedFd, roles: Roles, audit: Audit) -> io::Result<Self> {
        let listener = std::os::unix::net::UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        let listener = LocalListener::UdSocket(OwnedFd::from(listener).try_into()?);
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        Ok(Self { listener, roles, strangers, connections: Arc::default(), audit })
    }
}

impl AdminListener {
    /// Answers whatever is asked with the refusal, and hangs up.
    fn turn_away(
        &self,
        mut stream: Stream,
        caller: &Caller,
        refusal: &Failure,
        audited: Option<Entry>,
    ) {
        let Ok(place) = Arc::clone(&self.strangers).try_acquire_owned() else { return };
        tracing::warn!(uid = caller.uid, pid = caller.pid, %refusal, "refused on the admin socket");
        let response = super::problem::turning_away(refusal);
        let audit = self.audit.clone();
        tokio::spawn(async move {
            if let Some(entry) = audited {
                audit.refused(entry).await;
            }
            let answered = tokio::time::timeout(PATIENCE, async {
                // What is asked does not matter; a response before a request would.
                let _ = stream.read(&mut [0; 4096]).await?;
                stream.write_all(response.as_bytes()).await
            });
            // A stranger who does not listen misses it.
            let _ = answered.await;
            drop(place);
        });
    }

    /// The next connection of somebody who may ask something, with its place: to be held for as long as
    /// the connection is.
    pub(super) async fn accept(&self) -> (Stream, Caller, Place) {
        loop {
            match self.listener.accept().await {
                Ok(stream) => {
                    let caller = match &stream {
                        Stream::UdSocket(socket) => self.roles.caller(socket.inner().as_fd()),
                    };
                    if caller.role == Role::None {
                        let entry = super::caller::refused(&caller, Role::Reader);
                        let refusal = super::caller::denied(&caller, Role::Reader);
                        self.turn_away(stream, &caller, &refusal, Some(entry));
                        continue;
                    }
                    match self.connections.admit(caller.uid, self.roles.is_root(caller.uid)) {
                        Ok(place) => return (stream, caller, place),
                        Err(refusal) => self.turn_away(stream, &caller, &refusal, None),
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a client of the admin API could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A user, and whether it is root or the launcher's own.
type User = (bool, u32);

/// How many connections each user has.
#[derive(Default)]
struct Connections(Mutex<BTreeMap<User, usize>>);

/// The place of one connection, until it is dropped.
pub(super) struct Place {
    user: User,
    connections: Arc<Connections>,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<User, usize>> {
        // Nothing that holds it can leave a number half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more connection of a user. Those of root are bounded by themselves, so that nobody
    /// takes all places from it, nor it from the others.
    fn admit(self: &Arc<Self>, uid: u32, is_root: bool) -> Result<Place, Failure> {
        let mut connections = self.lock();
        let user = (is_root, uid);
        let own = connections.get(&user).copied().unwrap_or(0);
        let most = if is_root { OF_ROOT } else { OF_ONE };
        if own >= most {
            return Err(too_many(format!("user {uid} has {own} connections"), most, own));
        }
        let others = connections.iter().filter(|((is_root, _), _)| !is_root);
        let all: usize = others.map(|(_, count)| count).sum();
        if !is_root && all >= OF_ALL {
            return Err(too_many(
                format!("all users together have {all} connections"),
                OF_ALL,
                all,
            ));
        }
        connections.insert(user, own + 1);
        Ok(Place { user, connections: Arc::clone(self) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.connections.lock();
        if let Some(own) = connections.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                connections.remove(&self.user);
            }
        }
    }
}

fn too_many(what: String, limit: usize, used: usize) -> Failure {
    let message = format!(
        "{what} to the admin socket, of {limit} that it may have; close some that are idle or follow \
         something, and try again"
    );
    Failure::new(Code::ResourceExhausted, message)
        .with("resource", "connections")
        .with("limit", limit)
        .with("used", used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places_and_root_always_has_some() {
        let connections = Arc::new(Connections::default());
        let fill = |uid, is_root| -> (Vec<Place>, Failure) {
            let mut places = Vec::new();
            loop {
                match connections.admit(uid, is_root) {
                    Ok(place) => places.push(place),
                    Err(refusal) => return (places, refusal),
                }
            }
        };
        let (root, refusal) = fill(0, true);
        assert_eq!((root.len(), &refusal.details["limit"]), (OF_ROOT, &OF_ROOT.into()));
        let (mut one, refusal) = fill(1000, false);
        assert_eq!((one.len(), refusal.code), (OF_ONE, Code::ResourceExhausted));
        assert_eq!(
            (&refusal.details["limit"], &refusal.details["used"]),
            (&OF_ONE.into(), &OF_ONE.into())
        );
        one.pop();
        assert_eq!(fill(1000, false).0.len(), 1, "a place that is left is free");
        let others: Vec<_> = (1001..1020).map(|uid| fill(uid, false).0).collect();
        assert_eq!(one.len() + others.iter().map(Vec::len).sum::<usize>(), OF_ALL);
        drop(root);
        assert_eq!(fill(0, true).0.len(), OF_ROOT, "whatever the others have");
        drop((one, others));
        assert!(connections.lock().is_empty());
    }
}
