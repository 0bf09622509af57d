//! Bulk data between two drivers.

mod support;

use bulkhead_ipc_driver::protocol::message::Streams;
use bulkhead_ipc_driver::protocol::{Call, CallFailure, EndReason, Payload};
use bulkhead_ipc_driver::{OpenCall, StreamError};
use bytes::Bytes;
use support::{End, Told, pair, paused, raw, real, sockets};

fn open(end: &End, method: &str, argument: &str, streams: Streams) -> OpenCall {
    end.peer.open(Call::new(method, raw(argument)), streams).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn an_upload_arrives_whole_whatever_its_pieces() {
    real(async {
        let (host, _plugin) = sockets();
        let OpenCall { reply, upload, download } = open(&host, "count", "", Streams::UPLOAD);
        assert!(download.is_none());
        let mut upload = upload.expect("it was asked for");
        let mut total = 0;
        for length in [1, 65_536, 65_537, 3_000_000, 17] {
            assert_eq!(upload.write(Bytes::from(vec![0; length])).await, Ok(()));
            total += length;
        }
        assert_eq!(upload.end(), Ok(()));
        assert_eq!(reply.await, Ok(raw(&total.to_string())));
    });
}

#[test]
fn a_download_arrives_in_order_and_then_the_reply() {
    real(async {
        let (host, _plugin) = sockets();
        let OpenCall { reply, download, .. } = open(&host, "produce", "2500000", Streams::DOWNLOAD);
        let mut download = download.expect("it was asked for");
        let mut at = 0_usize;
        while let Some(chunk) = download.read().await.expect("it is complete") {
            for byte in chunk {
                assert_eq!(byte, at as u8, "at {at}");
                at += 1;
            }
        }
        assert_eq!(at, 2_500_000);
        assert_eq!(reply.await, Ok(Payload::empty()));
    });
}

#[test]
fn calls_are_answered_while_bulk_data_flows() {
    paused(async {
        let (host, _plugin) = pair();
        let call = open(&host, "produce", "2000000", Streams::DOWNLOAD);
        let mut download = call.download.expect("it was asked for");
        assert!(matches!(download.read().await, Ok(Some(_))));
        // Nobody reads on: the sender has spent its credit, and all else goes its way.
        assert_eq!(host.peer.call(Call::new("echo", raw("still"))).await, Ok(raw("still")));
        assert!(host.peer.ping().await.is_ok());
    });
}

#[test]
fn a_writer_dropped_before_its_end_is_no_end() {
    paused(async {
        let (host, mut plugin) = pair();
        let OpenCall { reply, download, .. } = open(&host, "halfway", "", Streams::DOWNLOAD);
        let mut download = download.expect("it was asked for");
        assert_eq!(download.read().await, Ok(Some(Bytes::from_static(b"half"))));
        assert_eq!(download.read().await, Err(StreamError::Reset));
        assert_eq!(reply.await, Ok(Payload::empty()));

        let OpenCall { reply, upload, .. } = open(&host, "count", "", Streams::UPLOAD);
        drop(upload);
        let failure = reply.await.expect_err("the upload was cut");
        assert!(matches!(failure, CallFailure::Remote(error) if error.code == "STREAM"));
        // Its handler went by the error, before it was ready.
        assert_eq!(plugin.told.recv().await, Some(Told::Dropped("count".to_owned())));
    });
}

#[test]
fn a_reader_dropped_before_the_end_stops_the_sender() {
    paused(async {
        let (host, _plugin) = pair();
        let OpenCall { reply, download, .. } = open(&host, "produce", "9000000", Streams::DOWNLOAD);
        let mut download = download.expect("it was asked for");
        assert!(matches!(download.read().await, Ok(Some(_))));
        drop(download);
        let failure = reply.await.expect_err("the handler could not send");
        assert!(
            matches!(&failure, CallFailure::Remote(error) if error.message.contains("no more")),
            "{failure}"
        );
    });
}

#[test]
fn an_upload_that_nobody_reads_ends_with_the_reply() {
    paused(async {
        let (host, _plugin) = pair();
        let OpenCall { reply, upload, .. } = open(&host, "echo", "no, thanks", Streams::UPLOAD);
        let mut upload = upload.expect("it was asked for");
        assert_eq!(upload.write(Bytes::from_static(b"please")).await, Err(StreamError::Stopped));
        assert_eq!(upload.end(), Err(StreamError::Stopped));
        assert_eq!(reply.await, Ok(raw("no, thanks")));
    });
}

#[test]
fn withdrawing_the_call_ends_its_streams_on_both_sides() {
    paused(async {
        let (host, mut plugin) = pair();
        let OpenCall { reply, upload, download } = open(&host, "count", "", Streams::BOTH);
        let (mut upload, mut download) =
            (upload.expect("it was asked for"), download.expect("it was asked for"));
        assert_eq!(upload.write(Bytes::from_static(b"begun")).await, Ok(()));
        drop(reply);
        assert_eq!(upload.write(Bytes::from_static(b"more")).await, Err(StreamError::Stopped));
        assert_eq!(download.read().await, Err(StreamError::Reset));
        assert_eq!(plugin.told.recv().await, Some(Told::Dropped("count".to_owned())));
    });
}

#[test]
fn the_end_of_the_session_ends_streams() {
    paused(async {
        let (host, plugin) = pair();
        let OpenCall { reply, upload, download } = open(&host, "never", "", Streams::BOTH);
        let (mut upload, mut download) =
            (upload.expect("it was asked for"), download.expect("it was asked for"));
        let write = upload.write(Bytes::from_static(b"never read"));
        let end = async {
            assert!(host.peer.ping().await.is_ok());
            plugin.driver.abort();
        };
        let ((), write, read, reply) = tokio::join!(end, write, download.read(), reply);
        assert_eq!(write, Err(StreamError::Ended(EndReason::Closed)));
        assert_eq!(read, Err(StreamError::Ended(EndReason::Closed)));
        assert_eq!(reply, Err(CallFailure::Ended(EndReason::Closed)));
    });
}
