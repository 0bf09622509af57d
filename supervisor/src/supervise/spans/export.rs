//! Tells a collector of spans, in batches, by OTLP over HTTP.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Counters, QUEUE, Span, otlp};
use crate::config::OtlpEndpoint;

/// A request has so many spans at the most.
const BATCH: usize = 512;
/// How long a collector may take for one.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn run(
    endpoint: OtlpEndpoint,
    pace: Duration,
    mut queued: mpsc::Receiver<Span>,
    counters: Arc<Counters>,
) {
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pending: Vec<Span> = Vec::new();
    let mut away = false;
    loop {
        tokio::select! {
            received = queued.recv_many(&mut pending, BATCH) => {
                if received == 0 {
                    return;
                }
                // The newest are the ones that somebody may still ask about.
                if pending.len() > QUEUE {
                    let over = pending.len() - QUEUE;
                    pending.drain(..over);
                    counters.dropped.fetch_add(over as u64, Ordering::Relaxed);
                }
                if away || pending.len() < BATCH {
                    continue;
                }
            }
            _ = ticks.tick() => {}
        }
        while !pending.is_empty() {
            let batch = &pending[..pending.len().min(BATCH)];
            let sent = timeout(PATIENCE, post(&endpoint, batch)).await;
            match sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(()) => {
                    counters.exported.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    let length = batch.len();
                    pending.drain(..length);
                    if std::mem::take(&mut away) {
                        tracing::info!(%endpoint, "the collector takes spans again");
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!(%endpoint, %error, "the collector takes no spans; the newest {QUEUE} are kept for it");
                    }
                    break;
                }
            }
        }
    }
}

async fn post(endpoint: &OtlpEndpoint, spans: &[Span]) -> io::Result<()> {
    let body = serde_json::to_vec(&otlp::request(spans)).map_err(io::Error::other)?;
    let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let request = Request::post(endpoint.path())
        .header(HOST, endpoint.authority())
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(io::Error::other)?;
    let answered = sender.send_request(request).await.map_err(io::Error::other);
    connection.abort();
    match answered?.status() {
        StatusCode::OK | StatusCode::ACCEPTED => Ok(()),
        status => Err(io::Error::other(format!("it answers {status}"))),
    }
}
