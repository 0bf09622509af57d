use super::*;

fn hosts(pairs: &[&str]) -> Network {
    Network::Hosts(pairs.iter().map(|pair| pair.parse().unwrap()).collect())
}

#[test]
fn exactly_the_granted_pairs() {
    let network = hosts(&["fhir.example.org:443", "[2001:db8::7]:5432"]);
    let granted = |host: &str, port| is_granted(&network, &HostPort { host: host.into(), port });
    assert!(granted("fhir.example.org", 443));
    assert!(granted("FHIR.example.org", 443));
    assert!(granted("2001:db8::7", 5432));
    for (host, port) in [
        ("fhir.example.org", 80),
        ("fhir.example.org.", 443),
        ("example.org", 443),
        ("192.0.2.7", 443),
        ("2001:db8::7", 443),
        ("", 443),
    ] {
        assert!(!granted(host, port), "{host}:{port}");
    }
    for nothing in [Network::None, Network::Ports { connect: vec![443], bind: vec![] }] {
        assert!(!is_granted(&nothing, &"fhir.example.org:443".parse().unwrap()));
    }
}

#[test]
fn a_name_leads_to_no_service_of_this_machine() {
    let meant = |host: &str, address: &str| is_meant(host, address.parse().unwrap());
    for address in ["203.0.113.9", "10.0.0.9", "2001:db8::9", "fd00::9"] {
        assert!(meant("fhir.example.org", address), "{address}");
    }
    for address in [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "169.254.169.254",
        "255.255.255.255",
        "224.0.0.1",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "fe80::1",
        "ff02::1",
    ] {
        assert!(!meant("fhir.example.org", address), "{address}");
        assert!(meant(address, address), "an address stands for itself: {address}");
    }
    assert!(meant("localhost", "127.0.0.1") && meant("localhost", "::1"));
    assert!(!meant("localhost", "203.0.113.9"));
}

#[test]
fn what_is_refused_to_a_name_is_granted_by_its_remedy() {
    let pair: HostPort = "db.example.org:5432".parse().unwrap();
    for (address, by_itself) in [("127.0.0.1", "127.0.0.1:5432"), ("::1", "[::1]:5432")] {
        let address: IpAddr = address.parse().unwrap();
        let leads = |pairs: &[&str]| may_lead(&hosts(pairs), &pair, address);
        assert!(!leads(&["db.example.org:5432"]));
        assert!(!leads(&["db.example.org:5432", "127.0.0.1:80", "127.0.0.2:5432"]), "another");
        assert!(leads(&["db.example.org:5432", by_itself]));
        let remedy = remedy(&HostPort { host: address.to_string(), port: pair.port });
        assert_eq!(remedy.unwrap(), format!("[network] hosts = [\"{by_itself}\"]"));
    }
}

#[test]
fn the_line_that_grants_a_pair_is_one_of_the_manifest() {
    for (host, pair) in [("fhir.example.org", "fhir.example.org:443"), ("::1", "[::1]:443")] {
        let line = remedy(&HostPort { host: host.to_owned(), port: 443 }).unwrap();
        assert_eq!(line, format!("[network] hosts = [\"{pair}\"]"));
        let text = line.replace("[network] ", "");
        let network: Network = toml::from_str(&text).unwrap();
        assert_eq!(network, hosts(&[pair]));
    }
    for (host, port) in [("", 443), ("a b", 443), ("a\nb", 443), ("example.org", 0)] {
        assert_eq!(remedy(&HostPort { host: host.to_owned(), port }), None, "{host:?}:{port}");
    }
}

#[tokio::test]
async fn a_connection_reaches_the_listener_and_a_refused_one_says_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let broker = Broker::default();
    let make = |pair: String| {
        let place = Arc::new(Arc::clone(&broker.places).try_acquire_owned().unwrap());
        async move {
            let pair = pair.parse().unwrap();
            make(&Network::None, &pair, Instant::now() + PATIENCE, place).await
        }
    };
    let socket = make(address.to_string()).await.unwrap();
    assert!(bulkhead_sandbox::descriptors::is_tcp_connection(&socket));
    let (accepted, _) = listener.accept().unwrap();
    assert!(!bulkhead_sandbox::descriptors::is_tcp_connection(&listener), "it has no peer");
    drop((accepted, listener));
    let Err(Unmade::Failed(failure)) = make(address.to_string()).await else {
        panic!("nobody listens there");
    };
    assert_eq!(failure.code, Code::ConnectFailed, "{failure}");
    assert_eq!(failure.details["port"], address.port());
    assert_eq!(broker.places.available_permits(), AT_A_TIME, "the places are given back");
}
