//! What a call costs, against what the socket under it costs.
//!
//! `cargo bench -p bulkhead-ipc-driver`. Both peers are threads on one core, since across cores the
//! wake-up of an idle one hides the software. Every figure is the median of several rounds, each
//! of which measures the bare socket pair and the protocol one after the other with the same
//! bytes; the ratio is the median of the rounds' ratios. An argument selects lines by name.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run says so by panicking")]

use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bulkhead_ipc_driver::protocol::{Call, CallError, Hello, Limits, Payload};
use bulkhead_ipc_driver::{Handler, IncomingCall, Peer, Socket, connect};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

const ROUNDS: usize = 15;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part));
    let core = pin_to_one_core();
    println!("both peers on core {core}; medians of {ROUNDS} rounds");
    let ours = Client::start();
    if chosen("round trip, 64 B") {
        let mut raw = RawClient::start(64);
        report("round trip, 64 B", 1.0, || raw.ping_pong(10_000), || ours.round_trips(10_000));
    }
    // Two limits: messages that are written 64 at a time and read one by one, as a peer without a
    // buffer of its own would; and 4 KiB blocks in which nobody looks for messages at all.
    let name = "64 outstanding, 64 B, each message read";
    if chosen(name) {
        let mut raw = RawClient::start_batches(64, 64);
        report(name, 64.0, || raw.batches(500), || ours.outstanding(64, 500));
    }
    let name = "64 outstanding, 64 B, as one block";
    if chosen(name) {
        let mut raw = RawClient::start(64 * 64);
        report(name, 64.0, || raw.ping_pong(500), || ours.outstanding(64, 500));
    }
    for (name, length) in [("bulk echo, 64 KiB", 64 * 1024), ("bulk echo, 1 MiB", 1024 * 1024)] {
        if chosen(name) {
            let mut raw = RawClient::start(length);
            let count = 64 * 1024 * 1024 / length;
            let ratio = report(name, 1.0, || raw.ping_pong(count), || ours.echo(length, count));
            println!("{name}: {:.2} of the raw throughput", 1.0 / ratio);
        }
    }
}

/// Prints one line, and returns how many times the raw cost ours is.
fn report(
    name: &str,
    per: f64,
    mut raw: impl FnMut() -> Duration,
    mut ours: impl FnMut() -> Duration,
) -> f64 {
    raw();
    ours();
    let (mut raws, mut all, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let raw = raw().as_secs_f64() * 1e9 / per;
        let ours = ours().as_secs_f64() * 1e9 / per;
        raws.push(raw);
        all.push(ours);
        ratios.push(ours / raw);
    }
    let (raw, ours, ratio) = (median(raws), median(all), median(ratios));
    println!(
        "{name}: {ours:.0} ns  ({ratio:.2} × raw {raw:.0} ns; {:.2} of the limit)",
        1.0 / ratio
    );
    ratio
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Threads started later inherit it.
fn pin_to_one_core() -> usize {
    let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let core = (0..CpuSet::count()).rfind(|core| all.is_set(*core).unwrap_or(false)).unwrap();
    let mut one = CpuSet::new();
    one.set(core).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    core
}

/// Messages of one length to a thread that sends each back once it has all of it.
struct RawClient {
    stream: UnixStream,
    message: Vec<u8>,
}

impl RawClient {
    fn start(length: usize) -> Self {
        let (stream, mut server) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut message = vec![0; length];
            while server.read_exact(&mut message).is_ok() {
                server.write_all(&message).unwrap();
            }
        });
        Self { stream, message: vec![0; length] }
    }

    /// The server reads each message of a batch by itself and answers the batch in one write.
    fn start_batches(batch: usize, length: usize) -> Self {
        let (stream, mut server) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut messages = vec![0; batch * length];
            while messages.chunks_mut(length).all(|message| server.read_exact(message).is_ok()) {
                server.write_all(&messages).unwrap();
            }
        });
        Self { stream, message: vec![0; batch * length] }
    }

    /// The time of one batch, of messages of 64 bytes.
    fn batches(&mut self, count: usize) -> Duration {
        let started = Instant::now();
        for _ in 0..count {
            self.stream.write_all(&self.message).unwrap();
            for message in self.message.chunks_mut(64) {
                self.stream.read_exact(message).unwrap();
            }
        }
        started.elapsed() / count as u32
    }

    /// The time of one.
    fn ping_pong(&mut self, count: usize) -> Duration {
        let started = Instant::now();
        for _ in 0..count {
            self.stream.write_all(&self.message).unwrap();
            self.stream.read_exact(&mut self.message).unwrap();
        }
        started.elapsed() / count as u32
    }
}

struct Echo;

impl Handler for Echo {
    fn call(
        &self,
        call: IncomingCall,
    ) -> impl Future<Output = Result<Payload, CallError>> + 'static {
        std::future::ready(Ok(call.payload))
    }
}

fn peer(stream: UnixStream, name: &str) -> (Runtime, LocalSet, Peer) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = LocalSet::new();
    let peer = local.block_on(&runtime, async {
        let stream = Socket::new(stream).unwrap();
        let hello = Hello::new(name, "0.1.0".parse().unwrap()).unwrap();
        let (peer, driver) = connect(stream, hello, Limits::default(), Echo);
        tokio::task::spawn_local(driver);
        peer
    });
    (runtime, local, peer)
}

struct Client {
    runtime: Runtime,
    local: LocalSet,
    peer: Peer,
}

impl Client {
    fn start() -> Self {
        let (stream, server) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let (runtime, local, peer) = peer(server, "server");
            local.block_on(&runtime, peer.closed());
        });
        let (runtime, local, peer) = peer(stream, "client");
        local.block_on(&runtime, peer.ready()).unwrap();
        Self { runtime, local, peer }
    }

    fn time(&self, work: impl Future<Output = ()>) -> Duration {
        self.local.block_on(&self.runtime, async {
            let started = Instant::now();
            work.await;
            started.elapsed()
        })
    }

    fn echo(&self, length: usize, count: usize) -> Duration {
        let peer = self.peer.clone();
        let payload = Payload::raw(vec![7; length]);
        let all = self.time(async move {
            let caller = tokio::task::spawn_local(async move {
                for _ in 0..count {
                    let reply = peer.call(Call::new("echo", payload.clone())).await.unwrap();
                    assert_eq!(reply.body.len(), length);
                }
            });
            caller.await.unwrap();
        });
        all / count as u32
    }

    fn round_trips(&self, count: usize) -> Duration {
        self.echo(64, count)
    }

    /// The time of one call of each of `callers`.
    fn outstanding(&self, callers: usize, count: usize) -> Duration {
        let all = self.time(async {
            let callers: Vec<_> = (0..callers)
                .map(|_| {
                    let peer = self.peer.clone();
                    tokio::task::spawn_local(async move {
                        let payload = Payload::raw(vec![7; 64]);
                        for _ in 0..count {
                            peer.call(Call::new("echo", payload.clone())).await.unwrap();
                        }
                    })
                })
                .collect();
            for caller in callers {
                caller.await.unwrap();
            }
        });
        all / count as u32
    }
}
