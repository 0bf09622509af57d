//! Connections that plugins may have, made for them.
//!
//! Theory of operation. A plugin that was granted `host:port` pairs lives in an empty network namespace
//! and cannot open a socket. It asks; here the pair is held against its manifest, the name resolved, the
//! address looked at, the connection made; the launcher then hands the connected socket over. So it
//! reaches what it was granted and nothing else, whatever runs in its compartment.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bulkhead_ipc_driver::IncomingCall;
use bulkhead_ipc_protocol::host::Connect;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::audit::{Action, Entry, Outcome};
use super::denials::Denials;
use super::plugin::StartPlan;
use super::principal::Principal;
use super::registry::Registry;
use crate::clock::Monotonic;
use crate::failure::{Code, Failure};
use crate::manifest::{HostPort, Network};
use crate::refusal::{Barrier, Refused, quoted};

/// Connections of one plugin that are being made at a time.
const AT_A_TIME: usize = 8;
/// How long one may take, names and all, where the caller does not say.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is under way for one plugin; cheap to clone.
#[derive(Clone)]
pub(crate) struct Broker {
    places: Arc<Semaphore>,
    tokens: Arc<AtomicU64>,
}

impl Default for Broker {
    fn default() -> Self {
        // Never one of an earlier session's, whose connections may not be taken yet.
        let first = Monotonic::now().nanos();
        Self { places: Arc::new(Semaphore::new(AT_A_TIME)), tokens: Arc::new(first.into()) }
    }
}

impl Broker {
    /// Names the next packet with a connection.
    pub(crate) fn next_token(&self) -> u64 {
        self.tokens.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a connection that the plugin was granted.
    pub(crate) async fn connect(
        &self,
        registry: &Registry,
        plan: &StartPlan,
        call: &IncomingCall,
        asked: Connect,
    ) -> Result<OwnedFd, Failure> {
        let pair = HostPort { host: asked.host, port: asked.port };
        if !is_granted(&plan.manifest.network, &pair) {
            let by = remedy(&pair);
            note_refusal(registry, plan, call, &pair, by.clone()).await;
            return Err(not_granted(plan, &pair, by));
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            Failure::new(
                Code::ResourceExhausted,
                format!(
                    "{AT_A_TIME} connections of {} are being made already; wait for one",
                    plan.id
                ),
            )
            .with("resource", "connections")
            .with("limit", AT_A_TIME)
            .with("used", AT_A_TIME)
        })?;
        let latest = Instant::now() + PATIENCE;
        let deadline = call.deadline.map_or(latest, |deadline| deadline.min(latest));
        let made = tokio::time::timeout_at(
            deadline,
            make(&plan.manifest.network, &pair, deadline, Arc::new(place)),
        );
        match made.await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(Unmade::Failed(failure))) => Err(failure),
            Ok(Err(Unmade::NotMeant(address))) => {
                let by = remedy(&HostPort { host: address.to_string(), port: pair.port });
                note_refusal(registry, plan, call, &pair, by.clone()).await;
                Err(not_meant(&pair, address, by))
            }
            Err(_) => Err(failed(&pair, "it took too long")),
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
enum Unmade {
    /// The name leads to where a name does not lead.
    NotMeant(IpAddr),
    Failed(Failure),
}

impl From<Failure> for Unmade {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A pair that is refused is in the audit, and among what was denied to the plugin.
async fn note_refusal(
    registry: &Registry,
    plan: &StartPlan,
    call: &IncomingCall,
    pair: &HostPort,
    remedy: Option<String>,
) {
    let principal = Principal::plugin(&plan.id, call.on_behalf_of.clone());
    let entry = Entry::new(principal, Action::Denied, Outcome::Failed(Code::PermissionDenied))
        .about(&plan.id)
        .with("connect", shown(pair))
        .with("layer", Barrier::GRANT)
        .with("remedy", &remedy);
    registry.audit.refused(entry).await;
    registry.metrics.refused(&plan.id, "connect");
    Denials::refused(
        registry,
        &plan.id,
        Refused::by_grant(format!("connect {}", shown(pair)), remedy),
    );
}

fn is_granted(network: &Network, asked: &HostPort) -> bool {
    let Network::Hosts(granted) = network else { return false };
    granted
        .iter()
        .any(|pair| pair.port == asked.port && pair.host.eq_ignore_ascii_case(&asked.host))
}

async fn make(
    network: &Network,
    pair: &HostPort,
    deadline: Instant,
    place: Arc<OwnedSemaphorePermit>,
) -> Result<OwnedFd, Unmade> {
    let (host, port) = (pair.host.clone(), pair.port);
    // A resolver that hangs keeps its place, although nobody waits for it any more.
    let held = Arc::clone(&place);
    let resolving = tokio::task::spawn_blocking(move || {
        let _held = held;
        (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>)
    });
    let found = resolving.await.map_err(Failure::internal)?;
    let found =
        found.map_err(|error| failed(pair, format_args!("the name is not resolved: {error}")))?;
    let allowed: Vec<SocketAddr> =
        found.iter().copied().filter(|address| may_lead(network, pair, address.ip())).collect();
    let mut last = match found.first() {
        None => return Err(failed(pair, "the name has no address").into()),
        Some(address) if allowed.is_empty() => return Err(Unmade::NotMeant(address.ip())),
        Some(_) => io::Error::from(io::ErrorKind::TimedOut),
    };
    for (nth, address) in allowed.iter().enumerate() {
        // One that does not answer leaves time for the others.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (allowed.len() - nth) as u32;
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream.into_std().map_err(Failure::internal)?.into()),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed(pair, last).into())
}

/// Whether a pair that is granted leads to this address: it is meant, or granted itself.
fn may_lead(network: &Network, pair: &HostPort, address: IpAddr) -> bool {
    let by_itself = HostPort { host: address.to_string(), port: pair.port };
    is_meant(&pair.host, address) || is_granted(network, &by_itself)
}

/// A name stands for a machine elsewhere: whoever answers for it must not lead the plugin to what listens
/// on this machine's loopback only, or to its link. `localhost` stands for this one, and an address for itself.
fn is_meant(host: &str, address: IpAddr) -> bool {
    if host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let address = address.to_canonical();
    if host.eq_ignore_ascii_case("localhost") {
        return address.is_loopback();
    }
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || is_link_local)
}

/// As a person may see what a plugin wrote: of bounded length.
fn shown(pair: &HostPort) -> String {
    pair.to_string().chars().take(270).collect()
}

/// The line of the manifest that grants a pair. None: it is not one that can be written.
fn remedy(pair: &HostPort) -> Option<String> {
    let pair = pair.to_string().parse::<HostPort>().ok()?;
    Some(format!("[network] hosts = [{}]", quoted(&pair.to_string())))
}

fn not_granted(plan: &StartPlan, pair: &HostPort, remedy: Option<String>) -> Failure {
    let pair = shown(pair);
    let failure = Failure::new(
        Code::PermissionDenied,
        format!(
            "{} may not connect to {pair:?}: [network] hosts in its plugin.toml does not name it",
            plan.id
        ),
    )
    .with("permission", "network")
    .with("connect", pair);
    Barrier { layer: Barrier::GRANT, remedy }.explain(failure)
}

fn not_meant(pair: &HostPort, address: IpAddr, remedy: Option<String>) -> Failure {
    let failure = Failure::new(
        Code::PermissionDenied,
        format!(
            "{} is {address} by its name server, an address of this machine or its link, which a name does not grant; \
             grant the address besides",
            shown(pair),
        ),
    )
    .with("permission", "network")
    .with("connect", shown(pair));
    Barrier { layer: Barrier::GRANT, remedy }.explain(failure)
}

fn failed(pair: &HostPort, why: impl std::fmt::Display) -> Failure {
    Failure::new(Code::ConnectFailed, format!("no connection to {}: {why}", shown(pair)))
        .with("host", &pair.host)
        .with("port", pair.port)
}

#[cfg(test)]
mod tests;
