//! How sessions end, and what becomes of those who wait.

mod support;

use std::time::Duration;

use bulkhead_ipc_driver::protocol::{Call, CallFailure, Drain, EndReason, Limits};
use support::{Told, end, hello, pair, paused, raw, real, sockets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn drain() -> Drain {
    Drain { budget: Duration::from_secs(5), reason: "disable".to_owned(), save_state: true }
}

#[test]
fn events_and_drains_arrive_in_order() {
    paused(async {
        let (host, mut plugin) = pair();
        assert_eq!(host.peer.publish("topic", raw("1")), Ok(()));
        assert_eq!(host.peer.publish("topic", raw("2")), Ok(()));
        let event = |text| Some(Told::Event("topic".to_owned(), raw(text)));
        assert_eq!(plugin.told.recv().await, event("1"));
        assert_eq!(plugin.told.recv().await, event("2"));
        host.peer.drain(drain());
        assert_eq!(plugin.told.recv().await, Some(Told::Drain(drain())));
    });
}

#[test]
fn a_drain_waits_for_the_calls_in_flight_and_no_reply_is_lost() {
    paused(async {
        let (host, mut plugin) = pair();
        let waiting = host.peer.call(Call::new("wait", raw("last words")));
        assert!(host.peer.ping().await.is_ok());
        host.peer.drain(drain());
        assert_eq!(plugin.told.recv().await, Some(Told::Drain(drain())));
        assert_eq!(
            host.peer.call(Call::new("echo", raw("too late"))).await,
            Err(CallFailure::Draining)
        );
        let drained = plugin.peer.drained();
        tokio::pin!(drained);
        assert!(
            tokio::time::timeout(Duration::from_secs(1), &mut drained).await.is_err(),
            "a call is still in flight"
        );
        plugin.go.notify_one();
        assert_eq!(drained.await, Ok(()));
        // The side that drains may still call.
        assert_eq!(plugin.peer.call(Call::new("echo", raw("save"))).await, Ok(raw("save")));
        plugin.peer.goodbye("drained");
        assert_eq!(waiting.await, Ok(raw("last words")));
        assert_eq!(host.driver.await.ok(), Some(EndReason::Goodbye("drained".to_owned())));
        assert_eq!(plugin.driver.await.ok(), Some(EndReason::Finished("drained".to_owned())));
    });
}

#[test]
fn goodbye_lets_a_long_reply_out_first() {
    real(async {
        let (host, _plugin) = sockets();
        let body = bulkhead_ipc_driver::protocol::Payload::raw(vec![5; 1 << 20]);
        let call = host.peer.call(Call::new("leave", body.clone()));
        assert!(call.await == Ok(body), "the reply is lost");
        assert_eq!(host.peer.closed().await, EndReason::Goodbye("done".to_owned()));
    });
}

#[test]
fn everyone_who_waits_is_released_when_the_peer_dies() {
    real(async {
        let (host, plugin) = sockets();
        assert!(host.peer.ready().await.is_ok());
        let (call, drained, closed) =
            (host.peer.call(Call::new("never", raw(""))), host.peer.drained(), host.peer.closed());
        let die = async {
            assert!(host.peer.ping().await.is_ok());
            plugin.driver.abort();
        };
        let ((), call, drained, closed) = tokio::join!(die, call, drained, closed);
        assert_eq!(call, Err(CallFailure::Ended(EndReason::Closed)));
        assert_eq!(drained, Err(EndReason::Closed));
        assert_eq!(closed, EndReason::Closed);
        assert_eq!(host.peer.end_reason(), Some(EndReason::Closed));
        assert_eq!(host.peer.ping().await, Err(EndReason::Closed));
        assert_eq!(
            host.peer.call(Call::new("echo", raw(""))).await,
            Err(CallFailure::Ended(EndReason::Closed))
        );
        assert_eq!(plugin.peer.closed().await, EndReason::Dropped);
    });
}

#[test]
fn dropping_the_handles_ends_nothing() {
    paused(async {
        let (host, plugin) = pair();
        drop(plugin.peer);
        assert_eq!(host.peer.call(Call::new("echo", raw("on"))).await, Ok(raw("on")));
    });
}

#[test]
fn a_handler_that_panics_releases_those_who_wait() {
    paused(async {
        let (host, plugin) = pair();
        let other = host.peer.call(Call::new("never", raw("")));
        let local = plugin.peer.call(Call::new("never", raw("")));
        let panics = host.peer.call(Call::new("panic", raw("")));
        let ended = CallFailure::Ended(EndReason::Closed);
        assert_eq!(panics.await, Err(ended.clone()));
        assert_eq!(other.await, Err(ended));
        assert_eq!(local.await, Err(CallFailure::Ended(EndReason::Dropped)));
        assert!(plugin.driver.await.is_err_and(|error| error.is_panic()));
    });
}

#[test]
fn handlers_are_dropped_with_the_session() {
    paused(async {
        let (host, mut plugin) = pair();
        let _call = host.peer.call(Call::new("never", raw("")));
        assert!(host.peer.ping().await.is_ok());
        host.driver.abort();
        assert_eq!(plugin.driver.await.ok(), Some(EndReason::Closed));
        assert_eq!(plugin.told.recv().await, Some(Told::Dropped("never".to_owned())));
    });
}

#[test]
fn no_hello_in_time_ends_it() {
    paused(async {
        let (host, _silent) = tokio::io::duplex(1024);
        let host = end(host, "host", Limits::default());
        let limit = Limits::default().handshake_deadline;
        let started = tokio::time::Instant::now();
        assert_eq!(host.peer.ready().await, Err(EndReason::HandshakeTimeout { limit }));
        assert_eq!(started.elapsed(), limit);
    });
}

#[test]
fn a_frame_that_stands_still_ends_it() {
    paused(async {
        let (host, mut slow) = tokio::io::duplex(1024);
        let host = end(host, "host", Limits::default());
        assert!(slow.write_all(&[30, 0]).await.is_ok());
        assert!(matches!(host.peer.closed().await, EndReason::HandshakeTimeout { .. }));

        let (host, mut slow) = tokio::io::duplex(1024);
        let host = end(host, "host", Limits::default());
        let greeting = greeting();
        assert!(slow.write_all(&greeting).await.is_ok());
        assert!(host.peer.ready().await.is_ok());
        assert!(slow.write_all(&[30, 0]).await.is_ok());
        let limit = Limits::default().frame_deadline;
        assert_eq!(host.peer.closed().await, EndReason::SlowFrame { have: 2, limit });
    });
}

#[test]
fn whoever_breaks_the_rules_is_told_which() {
    paused(async {
        let (host, mut rude) = tokio::io::duplex(1024);
        let host = end(host, "host", Limits::default());
        let greeting = greeting();
        assert!(rude.write_all(&greeting).await.is_ok());
        assert!(rude.write_all(&greeting).await.is_ok());
        assert!(matches!(host.driver.await, Ok(EndReason::Violation(_))));
        let mut said = Vec::new();
        assert!(rude.read_to_end(&mut said).await.is_ok());
        assert!(String::from_utf8_lossy(&said).contains("a second hello"));
    });
}

#[test]
fn pings_beyond_the_bound_share_an_answer() {
    paused(async {
        let (host, _plugin) = pair();
        assert!(host.peer.ready().await.is_ok());
        let pings: Vec<_> = (0..40)
            .map(|_| {
                let peer = host.peer.clone();
                tokio::task::spawn_local(async move { peer.ping().await })
            })
            .collect();
        for ping in pings {
            assert!(ping.await.is_ok_and(|answer| answer.is_ok()));
        }
    });
}

fn greeting() -> Vec<u8> {
    use bulkhead_ipc_driver::protocol::frame::Lengths;
    let header = hello("guest").encode().unwrap_or_default();
    let mut bytes = Lengths { header: header.len(), body: 0 }.encode().to_vec();
    bytes.extend_from_slice(&header);
    bytes
}
