//! One connection of the admin API.

use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};

use super::caller::Caller;

/// How long a connection may be idle, and how long the header of a request may take to come. An answer
/// takes as long as it takes: events are followed for days.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers what is asked on a connection until its client ends it, or is silent for too long.
pub(super) async fn serve<S>(stream: S, router: Router, caller: Caller)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(caller.clone()));
        TowerToHyperService::new(router.clone()).call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::trace!(%error, "a connection of the admin API ends");
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use axum::body::{Body, Bytes};
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::mpsc;
    use tokio::time::Instant;
    use tokio_stream::StreamExt as _;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_is_hung_up_on_and_who_listens_is_not() {
        let (news, told) = mpsc::channel::<&str>(1);
        let told = ReceiverStream::new(told).map(|text| Ok::<_, Infallible>(Bytes::from(text)));
        let body = Arc::new(Mutex::new(Some(Body::from_stream(told))));
        let events = move || {
            let body = body.lock().unwrap().take().unwrap();
            async { body }
        };
        let router =
            Router::new().route("/short", get(async || "answered")).route("/events", get(events));
        let open = || {
            let (client, server) = tokio::io::duplex(4096);
            tokio::spawn(serve(server, router.clone(), Caller::nobody()));
            client
        };
        let began = Instant::now();
        for begun in ["", "GET /short HT", "GET /short HTTP/1.1\r\nhost: bulkhead\r\n\r\n"] {
            let mut client = open();
            client.write_all(begun.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!(
                answer.contains("answered"),
                begun.ends_with("\r\n\r\n"),
                "{begun:?}: {answer}"
            );
        }
        assert!(began.elapsed() >= PATIENCE * 3);
        let mut client = open();
        client.write_all(b"GET /events HTTP/1.1\r\nhost: bulkhead\r\n\r\n").await.unwrap();
        let mut heard = Vec::new();
        for text in ["first", "second"] {
            news.send(text).await.unwrap();
            while !heard.windows(text.len()).any(|part| part == text.as_bytes()) {
                assert_ne!(client.read_buf(&mut heard).await.unwrap(), 0, "it was hung up on");
            }
            tokio::time::advance(PATIENCE * 10).await;
        }
    }
}
