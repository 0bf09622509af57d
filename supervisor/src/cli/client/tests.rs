use std::convert::Infallible;
use std::os::unix::net::UnixListener;

use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::json;

use super::*;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn body(chunks: &'static [&'static str]) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
    StreamBody::new(tokio_stream::iter(
        chunks.iter().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes())))),
    ))
}

#[test]
fn lines_are_cut_wherever_the_chunks_are() {
    block_on(async {
        let mut lines = Lines::new(body(&["a", "b\nc", "\r\n\n", "d", "e"]));
        for expected in ["ab", "c", "", "de"] {
            assert_eq!(lines.next().await.unwrap().as_deref(), Some(expected));
        }
        assert_eq!(lines.next().await.unwrap(), None);
        assert_eq!(lines.next().await.unwrap(), None);
    });
}

#[test]
fn events_have_id_name_and_data() {
    block_on(async {
        let mut events = SseEvents::new(body(&[
            ":\n\nid: 7\nevent: plugin:ena",
            "bled\ndata: {\"a\":\ndata: 1}\n\nid:8\ndata\n\ndata: cut off",
        ]));
        let first = events.next().await.unwrap().unwrap();
        assert_eq!(first.id.as_deref(), Some("7"));
        assert_eq!(first.event.as_deref(), Some("plugin:enabled"));
        assert_eq!(first.data, "{\"a\":\n1}");
        let second = events.next().await.unwrap().unwrap();
        assert_eq!((second.id.as_deref(), second.data.as_str()), (Some("8"), ""));
        assert_eq!(events.next().await.unwrap(), None);
    });
}

#[test]
fn a_problem_keeps_code_details_and_exit_code() {
    let body = json!({"status": 504, "code": "TIMEOUT", "detail": "too late", "details": {"stage": "init"}});
    let problem = problem_document(StatusCode::GATEWAY_TIMEOUT, body.to_string().as_bytes());
    assert_eq!((problem.code.as_str(), problem.exit_code), ("TIMEOUT", 5));
    assert_eq!(problem.details["stage"], "init");
    let newer =
        problem_document(StatusCode::NOT_FOUND, br#"{"code":"NO_SUCH_THING","detail":"x"}"#);
    assert_eq!((newer.code.as_str(), newer.exit_code), ("NO_SUCH_THING", 3));
    let foreign = problem_document(StatusCode::BAD_GATEWAY, b"<html>");
    assert_eq!((foreign.code.as_str(), foreign.exit_code), ("HTTP_502", 1));
    assert!(foreign.message.contains("<html>"));
}

#[test]
fn nobody_there_is_unreachable_and_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let ask = || block_on(Client::new(socket.clone()).json(Ask::get("/v1/health"))).unwrap_err();
    let absent = ask();
    assert_eq!((absent.code.as_str(), absent.exit_code), ("UNREACHABLE", 1));
    assert!(
        absent.message.contains("admin.sock") && absent.message.contains("--socket"),
        "{absent:?}"
    );
    // A socket whose owner is gone.
    drop(UnixListener::bind(&socket).unwrap());
    assert_eq!(ask().code, "UNREACHABLE");
}

#[test]
fn who_answers_something_else_is_not_taken_for_the_service() {
    use std::io::{Read as _, Write as _};
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = std::thread::spawn(move || {
        for reply in ["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "SSH-2.0\r\n"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /v1/health HTTP/1.1\r\n"));
            stream.write_all(reply.as_bytes()).unwrap();
        }
    });
    for _ in 0..2 {
        let problem =
            block_on(Client::new(socket.clone()).json(Ask::get("/v1/health"))).unwrap_err();
        assert_eq!(problem.code, "UNREACHABLE", "{problem:?}");
    }
    server.join().unwrap();
}
