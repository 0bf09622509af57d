//! Brokered connections: a plugin in an empty network namespace reaches exactly what it was granted.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use bulkhead_tests::package::Package;
use bulkhead_tests::service::Service;
use bulkhead_tests::{lane, test_name};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Somebody who says a word to whoever connects, until the test ends.
fn listener(address: &str, word: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // The other end may be gone already.
            let _ = writeln!(stream.unwrap(), "{word}");
        }
    });
    at
}

/// What there is for whoever is not in a compartment.
fn heard(at: SocketAddr) -> String {
    let mut line = String::new();
    BufReader::new(TcpStream::connect(at).unwrap()).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn ask(service: &Service, pair: &str) -> Result<Value, Value> {
    let outcome =
        service.command(["call", "clinic", "ask", &json!(pair).to_string(), "--json"]).run();
    let told = if outcome.code() == 0 { &outcome.stdout } else { &outcome.stderr };
    let told = serde_json::from_str(told).unwrap_or_else(|_| panic!("not JSON: {told}"));
    if outcome.code() == 0 { Ok(told) } else { Err(told) }
}

fn pid(service: &Service) -> Value {
    service.json(["inspect", "clinic"])["process"]["pid"].clone()
}

#[test]
fn a_plugin_without_a_network_reaches_what_it_was_granted_and_nothing_else() {
    let (granted, other) = (listener("127.0.0.1", "hello"), listener("127.0.0.1", "secret"));
    assert_eq!((heard(granted), heard(other)), ("hello".into(), "secret".into()));
    // Bound and not listening: nobody else can be there meanwhile.
    let bound =
        socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(bound.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    let closed = SocketAddrV4::from(getsockname::<SockaddrIn>(bound.as_raw_fd()).unwrap());
    let service = Service::start();
    let by_name = format!("localhost:{}", granted.port());
    let lines = format!("[network]\nhosts = [\"{granted}\", \"{by_name}\", \"{closed}\"]");
    let enabled = service.enable(&Package::witness("clinic", &lines));
    let layers = enabled["plugin"]["enforcement"]["layers"].clone();
    let net = |layer: &&Value| layer["layer"] == "net-namespace";
    let namespace = layers.as_array().and_then(|layers| layers.iter().find(net).cloned());
    assert!(namespace.is_some_and(|layer| layer["enforced"] == true), "{layers}");
    let before = pid(&service);
    for _ in 0..20 {
        assert_eq!(ask(&service, &granted.to_string()), Ok(json!("hello")));
    }
    assert_eq!(ask(&service, &by_name), Ok(json!("hello")));

    let refused = ask(&service, &other.to_string()).unwrap_err();
    assert_eq!(refused["code"], "PERMISSION_DENIED", "{refused}");
    let told = refused["message"].as_str().unwrap();
    assert!(told.contains(&other.to_string()) && told.contains("hosts"), "{told}");
    // The same machine and port by another name is another pair.
    let alias = format!("127.0.0.2:{}", granted.port());
    assert_eq!(ask(&service, &alias).unwrap_err()["code"], "PERMISSION_DENIED");
    let failed = ask(&service, &closed.to_string()).unwrap_err();
    assert_eq!(failed["code"], "CONNECT_FAILED", "{failed}");
    assert_eq!(ask(&service, "no pair").unwrap_err()["details"]["pluginCode"], "REQUEST_INVALID");

    let rows = service.command(["audit", "--json"]).run().expect(0).stdout;
    let denial = |row: &str| row.contains("denied") && row.contains(&other.to_string());
    assert!(rows.lines().any(denial), "{rows}");
    assert_eq!(pid(&service), before, "one process all along");
}

#[test]
fn connections_are_made_for_a_plugin_after_its_supervisor_was_killed() {
    let granted = listener("127.0.0.1", "hello");
    let service = Service::start();
    service.enable(&Package::witness("clinic", &format!("[network]\nhosts = [\"{granted}\"]")));
    let before = pid(&service);
    for _ in 0..3 {
        assert_eq!(ask(&service, &granted.to_string()), Ok(json!("hello")));
        kill(Pid::from_raw(service.supervisor()), Signal::SIGKILL).unwrap();
        service.wait_for("clinic", |plugin| plugin["state"] == "enabled");
    }
    assert_eq!(pid(&service), before);
}

#[test]
fn past_the_host_nothing_can_be_dialled() {
    // The control has a port, which strict refuses where nothing holds a plugin to it.
    if lane::promised() && !lane::require(test_name!(), "landlock-network") {
        return;
    }
    let there = listener("127.0.0.1", "hello");
    let dial = |lines: &str| {
        let service = Service::start();
        service.enable(&Package::witness("clinic", lines));
        service.command(["call", "clinic", "dial", &json!(there).to_string(), "--json"]).run()
    };
    // The control: with that port of the machine's own network it can.
    dial(&format!("[network]\nconnect = [{}]", there.port())).expect(0);
    let refused = dial(&format!("[network]\nhosts = [\"{there}\"]")).expect(1);
    assert!(refused.stderr.contains("NOT_DIALLED"), "{}", refused.stderr);
}
