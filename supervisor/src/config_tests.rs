use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn parse(text: &str) -> Result<Config, Failure> {
    Config::parse(text, Path::new("bulkhead.toml"))
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(parse("").unwrap(), Config::default());
    let config = Config::default();
    assert_eq!(config.mode, Mode::Strict);
    assert!(!config.allow_directories);
    assert_eq!(config.socket(), config.runtime.join("admin.sock"));
}

#[test]
fn every_field_is_read() {
    let config = parse(
        r#"
        state = "/s"
        runtime = "/r"
        socket = "/x/y.sock"
        mode = "best-effort"
        user = "nobody"
        admin_group = "adm"
        reader_group = "2000"
        allow_directories = true
        advisories = "/srv/advisory-db"
        advisories_policy = "refuse"
        trust = "/t"
        stop_timeout = "1500ms"
        resume_timeout = "1m"
        heartbeat = "200ms"
        usage_interval = "30s"
        [uids]
        first = 100000
        count = 5
        [retention]
        archives = "2G"
        usage_1m = "2d"
        [logs]
        lines_per_second = 50
        bytes_per_second = "64K"
        journald = "off"
        [tracing]
        otlp_endpoint = "http://collector:4318"
        otlp_interval = "1s"
        [admission]
        memory = "2G"
        pids = 500
        max_exposure = 4.0
        [limits]
        cpu = "200%"
        io_write = "20M"
        io_read_ops = 300
        [mounts]
        read_only = ["/srv/a"]
        read_write = ["/srv/b"]
        "#,
    )
    .unwrap();
    assert_eq!(config.socket(), Path::new("/x/y.sock"));
    assert_eq!(config.mode, Mode::BestEffort);
    assert_eq!(config.uids, Uids { first: 100_000, count: 5 });
    assert_eq!(config.stop_timeout.millis(), 1500);
    assert_eq!(config.usage_interval.millis(), 30_000);
    assert_eq!(config.mounts.read_write, [Path::new("/srv/b")]);
    assert_eq!(config.reader_group.as_deref(), Some("2000"));
    assert!(config.allow_directories);
    assert_eq!(config.advisories.as_deref(), Some(Path::new("/srv/advisory-db")));
    assert_eq!(config.admission.memory.map(ByteSize::bytes), Some(2 << 30));
    assert_eq!(config.retention.archives_bytes(), 2 << 30);
    assert_eq!(config.retention.usage_1m.millis(), 2 * 86_400_000);
    assert_eq!(config.logs.lines_per_second, 50);
    assert_eq!(config.logs.bytes_per_second.bytes(), 64 << 10);
    assert_eq!(config.logs.journald, Journald::Off);
    let collector = config.tracing.otlp_endpoint.unwrap();
    assert_eq!(
        (collector.host(), collector.port(), collector.path()),
        ("collector", 4318, "/v1/traces")
    );
    assert_eq!(config.tracing.otlp_interval.millis(), 1000);
    assert_eq!(config.admission.pids, Some(500));
    assert_eq!(config.admission.max_exposure, Some("4".parse().unwrap()));
    let limits = config.limits;
    assert_eq!(limits.cpu, Some("200%".parse().unwrap()));
    assert_eq!((limits.io_write.map(ByteSize::bytes), limits.io_read), (Some(20 << 20), None));
    assert_eq!((limits.io_read_ops, limits.io_write_ops), (Some(300), None));
    assert_eq!(config.advisories_policy, AdvisoriesPolicy::Refuse);
    assert_eq!(config.trust, Path::new("/t"));
}

#[test]
fn a_fault_has_a_place() {
    let failure = parse("mode = \"strict\"\nmodus = 1\n").unwrap_err();
    assert_eq!(failure.code, Code::ConfigInvalid);
    assert!(failure.message.starts_with("bulkhead.toml:2:1: "), "{}", failure.message);
    assert!(failure.message.contains("modus"), "{}", failure.message);
    assert_eq!(failure.details["line"], 2);
    let failure = parse("[uids]\nfirst = \"many\"").unwrap_err();
    assert!(failure.message.starts_with("bulkhead.toml:2:9: "), "{}", failure.message);
}

#[test]
fn values_that_cannot_work_are_refused() {
    for (text, field) in [
        ("state = \"here\"", "state"),
        ("[mounts]\nread_only = [\"../etc\"]", "mounts.read_only"),
        ("stop_timeout = \"1ms\"", "stop_timeout"),
        ("resume_timeout = \"2h\"", "resume_timeout"),
        ("usage_interval = \"99ms\"", "usage_interval"),
        ("heartbeat = \"5m\"", "heartbeat"),
        ("[retention]\nusage_1m = \"59m\"", "retention.usage_1m"),
        ("[retention]\nusage_15m = \"401d\"", "retention.usage_15m"),
        ("[logs]\nlines_per_second = 9", "logs.lines_per_second"),
        ("[logs]\nbytes_per_second = \"8K\"", "logs.bytes_per_second"),
        ("[tracing]\notlp_interval = \"99ms\"", "tracing.otlp_interval"),
        ("[limits]\nio_write = \"63K\"", "limits.io_write"),
        ("[limits]\nio_read_ops = 15", "limits.io_read_ops"),
        ("[uids]\nfirst = 0", "uids"),
        ("[uids]\ncount = 1", "uids"),
        ("[uids]\nfirst = 4294967295\ncount = 10", "uids"),
        // The first and the last of `bulkhead exec`.
        ("[uids]\ncount = 100001", "uids"),
        ("[uids]\nfirst = 1904294303", "uids"),
    ] {
        let failure = parse(text).unwrap_err();
        assert!(failure.message.contains(&format!(": {field}: ")), "{text}: {}", failure.message);
    }
    for text in ["[uids]\ncount = 100000", "[uids]\nfirst = 1904294304"] {
        parse(text).unwrap();
    }
    for text in
        ["stop_timeout = 5", "mode = \"lax\"", "mode = \"strict\" 2", "supervisor_command = []"]
    {
        assert_eq!(parse(text).unwrap_err().code, Code::ConfigInvalid, "{text}");
    }
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bulkhead.toml");
    std::fs::write(&path, "mode = \"best-effort\"").unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(Config::load(Some(&path)).unwrap().mode, Mode::BestEffort);
    std::fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
    let failure = Config::load(Some(&path)).unwrap_err();
    assert_eq!(failure.code, Code::ConfigInvalid);
    assert!(failure.message.contains("chmod go-w"));
    let missing = directory.path().join("missing.toml");
    assert_eq!(Config::load(Some(&missing)).unwrap_err().code, Code::NotFound);
}
