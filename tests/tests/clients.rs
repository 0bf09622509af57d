//! Clients of the admin API that mean ill or are broken: whatever they send, each is answered in the
//! API's own words or its connection is closed, nobody else waits for it, and the service stays.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_tests::package::Package;
use bulkhead_tests::process::DEADLINE;
use bulkhead_tests::service::Service;
use serde_json::Value;

#[path = "../../ipc-protocol/fuzz/havoc.rs"]
mod havoc;

/// Requests of which bad ones are made: those of the fuzz target, with the lengths of their bodies.
fn seeds() -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../supervisor/fuzz/corpus/admin");
    let files = std::fs::read_dir(corpus).unwrap();
    files.map(|file| with_length(&std::fs::read(file.unwrap().path()).unwrap())).collect()
}

fn with_length(request: &[u8]) -> Vec<u8> {
    let end = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let (head, body) = (&request[..end], &request[end + 4..]);
    let length = format!("\r\ncontent-length: {}\r\n\r\n", body.len());
    [head, length.as_bytes(), body].concat()
}

/// What only asks, and can be answered whatever else was asked for; but for the check of an audit
/// against another's head.
fn asks(request: &[u8]) -> bool {
    request.starts_with(b"GET ") && !request.starts_with(b"GET /v1/audit/verify")
}

/// What was answered before the connection was closed, which it is in time.
fn exchange(socket: &Path, request: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    // The service may have had enough of it before it is all there.
    let sent = stream.write_all(request);
    let gone = |kind| matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
    assert!(sent.as_ref().is_ok() || gone(sent.unwrap_err().kind()), "the service does not read");
    // What is no whole request yet is not answered: then it is to see that no more comes.
    let mut answer = vec![0; 64 * 1024];
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let first = stream.read(&mut answer).unwrap_or(0);
    answer.truncate(first);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let _ = stream.shutdown(Shutdown::Write);
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if gone(error.kind()) => {}
        Err(error) => panic!("{error} after {} bytes of an answer", answer.len()),
    }
    answer
}

/// Every answer of a connection is one that the API may give.
fn check(request: &[u8], answer: &[u8]) {
    let text = String::from_utf8_lossy(answer);
    // Whoever asks by HTTP/1.0 is answered so.
    let is_answer = ["HTTP/1.0 ", "HTTP/1.1 "].iter().any(|version| text.starts_with(version));
    let start = |text: &str| text.chars().take(600).collect::<String>();
    let shown = || format!("{:?}\n{:?}", start(&String::from_utf8_lossy(request)), start(&text));
    assert!(text.is_empty() || is_answer, "{}", shown());
    for piece in text.split("HTTP/1.").skip(1) {
        let status = piece.get(2..5).and_then(|status| status.parse::<u16>().ok());
        // The API's description has these words too.
        let Some(status) = status else { continue };
        // An audit is broken that is not the one of which the client asks.
        let broken = piece.contains("\"AUDIT_BROKEN\"");
        assert!((200..505).contains(&status) && (status != 500 || broken), "{}", shown());
        assert!(!piece.contains("\"INTERNAL\""), "{}", shown());
        if let Some((head, body)) = piece.split_once("\r\n\r\n")
            && head.to_ascii_lowercase().contains("application/problem+json")
            && let Ok(problem) = serde_json::from_str::<Value>(body)
        {
            assert!(problem["code"].is_string() && problem["status"] == status, "{}", shown());
            assert!(problem["detail"].as_str().is_some_and(|it| !it.is_empty()), "{}", shown());
        }
    }
}

#[test]
fn whatever_is_sent_is_answered_or_cut_off_and_the_service_stays() {
    let service = Service::start();
    service.enable(&Package::hostile("victim", "well", ""));
    let supervisor = service.supervisor();
    let seeds = seeds();
    // The seeds themselves: at least these are understood.
    assert!(seeds.iter().any(|seed| asks(seed)));
    for seed in seeds.iter().filter(|seed| asks(seed)) {
        let answer = exchange(&service.socket(), seed);
        check(seed, &answer);
        assert!(answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(seed));
    }
    let cases = havoc::run(&seeds, |request| {
        check(request, &exchange(&service.socket(), request));
    });
    assert!(cases > 20, "only {cases} cases in {:?}", havoc::budget());
    assert_eq!(service.supervisor(), supervisor, "it was started again");
    // One of them may have uninstalled the plugin: that is what it says.
    service.enable(&Package::hostile("later", "well", ""));
    assert_eq!(service.json(["call", "later", "echo", "1"]), 1);
}

/// One that sends a byte now and then, or nothing, or does not read, holds nobody up, and not for ever.
#[test]
fn who_dawdles_holds_nobody_up() {
    let service = Service::start();
    service.enable(&Package::hostile("victim", "well", ""));
    let dawdlers: Vec<UnixStream> = (0..200)
        .map(|number| {
            let mut stream = UnixStream::connect(service.socket()).unwrap();
            let part: &[u8] = match number % 3 {
                0 => b"",
                1 => b"GET /v1/plu",
                // Asks for a lot and reads nothing of it.
                _ => b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n",
            };
            stream.write_all(part).unwrap();
            stream
        })
        .collect();
    let before = Instant::now();
    for number in 0..10 {
        let echoed = service.json(["call", "victim", "echo", &number.to_string()]);
        assert_eq!(echoed, number);
    }
    assert!(before.elapsed() < Duration::from_secs(10) + bulkhead_tests::lane::slack());
    drop(dawdlers);
}
