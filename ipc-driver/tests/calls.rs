//! Calls between two drivers.
#![allow(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

mod support;

use std::time::Duration;

use bulkhead_ipc_driver::protocol::message::TraceContext;
use bulkhead_ipc_driver::protocol::{Call, CallError, CallFailure, EndReason, Limits, Payload};
use support::{Told, end, hello, pair, paused, raw, real, sockets};

#[test]
fn both_sides_learn_who_the_other_is() {
    paused(async {
        let (host, plugin) = pair();
        assert_eq!(host.peer.ready().await.unwrap().peer_name, "plugin");
        let negotiated = plugin.peer.ready().await.unwrap();
        assert_eq!(negotiated.peer_name, "host");
        assert_eq!(negotiated.protocol.to_string(), "1.0.0");
    });
}

#[test]
fn either_side_calls_and_a_call_may_be_made_before_the_handshake() {
    paused(async {
        let (host, plugin) = pair();
        let (a, b) = tokio::join!(
            host.peer.call(Call::new("echo", raw("down"))),
            plugin.peer.call(Call::new("echo", raw("up"))),
        );
        assert_eq!((a, b), (Ok(raw("down")), Ok(raw("up"))));
    });
}

#[test]
fn an_error_of_the_handler_comes_with_code_and_details() {
    paused(async {
        let (host, _plugin) = pair();
        let error = CallError::new("ODD", "as asked").with_details(r#"{"a":1}"#);
        let failure = host.peer.call(Call::new("fail", Payload::empty())).await;
        assert_eq!(failure, Err(CallFailure::Remote(error)));
    });
}

#[test]
fn deadline_trace_and_acting_person_arrive() {
    paused(async {
        let (host, _plugin) = pair();
        let mut call = Call::new("about", Payload::empty()).with_timeout(Duration::from_secs(9));
        call.trace = Some(TraceContext { trace_id: [1; 16], span_id: [2; 8], flags: 1 });
        call.on_behalf_of = Some("dr. who".to_owned());
        let text = host.peer.call(call).await.unwrap();
        assert_eq!(text, raw(r#"Some(9s) Some(1) Some("dr. who")"#));
        let text = host.peer.call(Call::new("about", Payload::empty())).await.unwrap();
        assert_eq!(text, raw("None None None"));
    });
}

#[test]
fn bodies_of_every_size_come_back_over_a_socket() {
    real(async {
        let (host, _plugin) = sockets();
        for length in [0, 1, 4096, 4097, 16_000, 65_535, 65_536, 65_537, 300_000, 1024 * 1024] {
            let body: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
            let payload = Payload::raw(body);
            let reply = host.peer.call(Call::new("echo", payload.clone())).await.unwrap();
            assert!(reply == payload, "{length} bytes came back changed");
        }
    });
}

#[test]
fn a_handler_may_call_back_before_it_answers() {
    paused(async {
        let (host, _plugin) = pair();
        assert_eq!(host.peer.call(Call::new("callback", raw("twice"))).await, Ok(raw("twice")));
    });
}

#[test]
fn a_slow_call_does_not_hold_up_others() {
    paused(async {
        let (host, plugin) = pair();
        let slow = host.peer.call(Call::new("wait", raw("slow")));
        assert_eq!(host.peer.call(Call::new("echo", raw("fast"))).await, Ok(raw("fast")));
        plugin.go.notify_one();
        assert_eq!(slow.await, Ok(raw("slow")));
    });
}

#[test]
fn a_timeout_ends_the_call_on_both_sides() {
    paused(async {
        let (host, mut plugin) = pair();
        let limit = Duration::from_millis(250);
        let started = tokio::time::Instant::now();
        let failure = host.peer.call(Call::new("never", raw("")).with_timeout(limit)).await;
        assert_eq!(failure, Err(CallFailure::Timeout { limit }));
        assert!(started.elapsed() >= limit && started.elapsed() < limit * 2);
        assert_eq!(plugin.told.recv().await, Some(Told::Dropped("never".to_owned())));
        assert_eq!(host.peer.call(Call::new("echo", raw("on"))).await, Ok(raw("on")));
    });
}

#[test]
fn dropping_the_future_withdraws_the_call() {
    paused(async {
        let (host, mut plugin) = pair();
        let call = host.peer.call(Call::new("never", raw("")));
        assert_eq!(host.peer.call(Call::new("echo", raw("x"))).await, Ok(raw("x")));
        drop(call);
        assert_eq!(plugin.told.recv().await, Some(Told::Dropped("never".to_owned())));
        assert_eq!(host.peer.call(Call::new("echo", raw("on"))).await, Ok(raw("on")));
    });
}

#[test]
fn one_call_too_many_is_refused_and_there_is_room_again_later() {
    paused(async {
        let limits = Limits { max_outstanding_calls: 2, ..Limits::default() };
        let (host, plugin) = tokio::io::duplex(1024);
        let (host, plugin) = (end(host, "host", limits), end(plugin, "plugin", Limits::default()));
        let first = host.peer.call(Call::new("wait", raw("1")));
        let second = host.peer.call(Call::new("wait", raw("2")));
        let third = host.peer.call(Call::new("echo", raw("3"))).await;
        let resource = "outstanding calls";
        assert_eq!(third, Err(CallFailure::Exhausted { resource, limit: 2, used: 3 }));
        plugin.go.notify_one();
        assert_eq!(first.await, Ok(raw("1")));
        plugin.go.notify_one();
        assert_eq!(second.await, Ok(raw("2")));
        assert_eq!(host.peer.call(Call::new("echo", raw("3"))).await, Ok(raw("3")));
    });
}

#[test]
fn a_peer_that_does_not_read_exhausts_the_queue_and_then_the_patience() {
    paused(async {
        let limits = Limits { max_queued_bytes: 100_000, ..Limits::default() };
        let write_deadline = limits.write_deadline;
        let (host, mut silent) = tokio::io::duplex(512);
        let host = end(host, "host", limits);
        write_hello(&mut silent, "silent").await;
        host.peer.ready().await.unwrap();
        let calls: Vec<_> =
            (0..9).map(|_| host.peer.call(Call::new("x", Payload::raw(vec![0; 20_000])))).collect();
        let started = tokio::time::Instant::now();
        let mut failures = Vec::new();
        for call in calls {
            failures.push(call.await.unwrap_err());
        }
        let exhausted = failures
            .iter()
            .filter(|failure| matches!(failure, CallFailure::Exhausted { resource, .. } if *resource == "queued bytes"))
            .count();
        assert_eq!(exhausted, 5, "{failures:?}");
        assert!(
            matches!(&failures[0], CallFailure::Ended(EndReason::PeerUnresponsive { .. })),
            "{failures:?}"
        );
        assert!(started.elapsed() >= write_deadline);
        assert!(matches!(host.driver.await.unwrap(), EndReason::PeerUnresponsive { .. }));
    });
}

async fn write_hello(stream: &mut tokio::io::DuplexStream, name: &str) {
    use bulkhead_ipc_driver::protocol::frame::Lengths;
    use tokio::io::AsyncWriteExt;
    let header = hello(name).encode().unwrap();
    stream.write_all(&Lengths { header: header.len(), body: 0 }.encode()).await.unwrap();
    stream.write_all(&header).await.unwrap();
}

#[test]
fn handles_work_from_other_threads() {
    real(async {
        let (host, plugin) = sockets();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let peer = host.peer.clone();
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(async {
                        for round in 0..200 {
                            let text = format!("{thread} {round}");
                            let reply = peer.call(Call::new("echo", raw(&text))).await;
                            assert_eq!(reply, Ok(raw(&text)));
                        }
                    });
                })
            })
            .collect();
        let joined = tokio::task::spawn_blocking(|| threads.into_iter().all(|t| t.join().is_ok()));
        assert!(joined.await.unwrap());
        drop(plugin);
    });
}

/// Counts the events that it is told.
struct Counter(tokio::sync::watch::Sender<usize>, Option<bulkhead_ipc_driver::Pace>);

impl bulkhead_ipc_driver::Handler for Counter {
    fn call(
        &self,
        _: bulkhead_ipc_driver::IncomingCall,
    ) -> impl Future<Output = Result<Payload, CallError>> + 'static {
        std::future::pending()
    }

    fn event(&self, _: String, _: Payload) {
        self.0.send_modify(|told| *told += 1);
    }

    fn pace(&self) -> Option<bulkhead_ipc_driver::Pace> {
        self.1
    }
}

/// A stream on which so many events wait behind the hello, and its other end.
async fn flooded(events: usize) -> (tokio::io::DuplexStream, tokio::io::DuplexStream) {
    use bulkhead_ipc_driver::protocol::message::Header;
    use bulkhead_ipc_driver::protocol::{Encoding, codec, frame::Lengths};
    use tokio::io::AsyncWriteExt;
    let (stream, mut flooder) = tokio::io::duplex(1 << 20);
    write_hello(&mut flooder, "flooder").await;
    let event = Header::Event { topic: "t".into(), encoding: Encoding::Raw, rest: 0, trace: None };
    let header = codec::encode(&event);
    let mut bytes = Lengths { header: header.len(), body: 0 }.encode().to_vec();
    bytes.extend_from_slice(&header);
    flooder.write_all(&bytes.repeat(events)).await.unwrap();
    (stream, flooder)
}

#[test]
fn a_flood_of_events_is_handed_over_in_portions() {
    const EVENTS: usize = 1000;
    paused(async {
        let (stream, _flooder) = flooded(EVENTS).await;
        let (handler, told) = tokio::sync::watch::channel(0);
        let handler = Counter(handler, None);
        let (_peer, mut driver) =
            bulkhead_ipc_driver::connect(stream, hello("host"), Limits::default(), handler);
        // All of them are there; others of the thread have their turn all the same.
        let mut turns = 0;
        while *told.borrow() < EVENTS {
            let before = *told.borrow();
            std::future::poll_fn(|context| {
                let _ = std::pin::Pin::new(&mut driver).poll(context);
                std::task::Poll::Ready(())
            })
            .await;
            let handed = *told.borrow() - before;
            assert!(handed <= 128, "{handed} events in one turn");
            turns += 1;
            assert!(turns < 10 * EVENTS, "it stands still at {before}");
        }
        assert!(turns >= EVENTS / 128, "{turns} turns");
    });
}

#[test]
fn a_flood_beyond_its_pace_waits_and_what_is_said_to_it_does_not() {
    use tokio::io::AsyncReadExt;
    const EVENTS: usize = 1000;
    let pace = bulkhead_ipc_driver::Pace { portion: 64, every: Duration::from_millis(100) };
    paused(async move {
        let (stream, mut flooder) = flooded(EVENTS).await;
        let (handler, mut told) = tokio::sync::watch::channel(0);
        let handler = Counter(handler, Some(pace));
        let started = tokio::time::Instant::now();
        let (peer, driver) =
            bulkhead_ipc_driver::connect(stream, hello("host"), Limits::default(), handler);
        let driver = tokio::task::spawn_local(driver);
        peer.ready().await.unwrap();
        let mut greeting = [0; 256];
        assert!(flooder.read(&mut greeting).await.unwrap() > 0);
        told.wait_for(|told| *told == 3 * pace.portion).await.unwrap();
        // In the midst of a rest.
        let said = tokio::time::Instant::now();
        peer.publish("t", raw("to the flooder")).unwrap();
        assert!(flooder.read(&mut greeting).await.unwrap() > 0);
        assert_eq!(said.elapsed(), Duration::ZERO);
        // All of them come in the end, and its end is seen.
        drop(flooder);
        assert!(matches!(driver.await.unwrap(), EndReason::Closed));
        assert_eq!(*told.borrow(), EVENTS);
        let portions = u32::try_from(EVENTS / pace.portion).unwrap();
        assert!(started.elapsed() >= pace.every * portions, "{:?}", started.elapsed());
    });
}
