//! Each mode misbehaves as it says, seen by a real session on the other end.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use bulkhead_ipc_driver::protocol::lifecycle::{HEALTH, INIT, InitReply, InitRequest};
use bulkhead_ipc_driver::protocol::{
    Call, CallError, CallFailure, Drain, EndReason, Hello, Limits, Payload, Violation,
};
use bulkhead_ipc_driver::{Handler, IncomingCall, Peer, connect};
use tokio::net::UnixStream;
use tokio::task::LocalSet;

/// More than anything here takes; a test that meets it has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the host waits for a plugin that will not answer.
const SOON: Duration = Duration::from_millis(200);

/// Answers no call: a flood of them stays unanswered.
struct Host;

impl Handler for Host {
    fn call(&self, _: IncomingCall) -> impl Future<Output = Result<Payload, CallError>> + 'static {
        std::future::pending()
    }
}

/// A running plugin and its session.
struct Plugin {
    child: Child,
    peer: Peer,
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // Most are done for already; whichever is not must not outlive the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Plugin {
    fn start(mode: &str) -> Self {
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_hostile"))
            .args(mode.split(' '))
            .env("HOSTILE_SESSION", "stdin")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        ours.set_nonblocking(true).unwrap();
        let stream = UnixStream::from_std(ours).unwrap();
        let limits = Limits {
            frame_deadline: SOON,
            handshake_deadline: Duration::from_secs(2),
            write_deadline: SOON,
            ..Limits::default()
        };
        let hello = Hello::new("bulkhead", semver::Version::new(1, 0, 0)).unwrap();
        let (peer, driver) = connect(stream, hello, limits, Host);
        tokio::task::spawn_local(driver);
        Self { child, peer }
    }

    async fn init(&self) -> Result<Payload, CallFailure> {
        let request = InitRequest {
            plugin_id: "hostile".to_owned(),
            version: "0.1.0".to_owned(),
            config: "{}".to_owned(),
            permissions: Vec::new(),
        };
        self.call(INIT, Payload::bincode(&request).unwrap()).await
    }

    async fn call(&self, method: &str, payload: Payload) -> Result<Payload, CallFailure> {
        self.peer.call(Call::new(method, payload).with_timeout(Duration::from_secs(2))).await
    }

    async fn echo(&self, text: &'static str) -> Result<Payload, CallFailure> {
        self.call("hostile/echo", Payload::json_bytes(text)).await
    }

    /// Waits for the process's end. Its session ends with it, which leaves the runtime free meanwhile.
    async fn exit(&mut self) -> ExitStatus {
        self.peer.closed().await;
        self.child.wait().unwrap()
    }
}

/// Runs a scenario on the single thread that sessions want, within [`PATIENCE`].
fn play(scenario: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(PATIENCE, scenario()).await.expect("the scenario takes too long");
    });
}

#[test]
fn without_a_mode_it_lists_them_and_an_unknown_one_is_refused() {
    let run = |arguments: &[&str]| {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostile"));
        command.args(arguments).current_dir(directory.path()).output().unwrap()
    };
    let listed = run(&[]);
    assert_eq!(listed.status.code(), Some(2));
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(text.contains("never-hello") && text.contains("detached-child"), "{text}");
    for wrong in [&["no-such-mode"][..], &["crash-after", "many"], &["crash-after", "1", "2"]] {
        let refused = run(wrong);
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}");
        assert!(String::from_utf8(refused.stderr).unwrap().contains(wrong[0]));
    }
}

#[test]
fn the_mode_is_read_from_the_package_too() {
    let package = tempfile::tempdir().unwrap();
    std::fs::create_dir(package.path().join("bin")).unwrap();
    std::fs::write(package.path().join("mode"), "exit-at-once 42\n").unwrap();
    let entry = package.path().join("bin/entry");
    std::fs::copy(env!("CARGO_BIN_EXE_hostile"), &entry).unwrap();
    let mut command = Command::new(&entry);
    let status = command.env("HOSTILE_SESSION", "stdin").stdin(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(42));
}

/// The control for all the rest: without a fault the same program serves, drains and ends well.
#[test]
fn the_well_behaved_mode_serves_and_says_goodbye() {
    play(async || {
        let mut plugin = Plugin::start("well");
        let reply = plugin.init().await.unwrap();
        assert_eq!(reply.decode_bincode::<InitReply>(), Ok(InitReply { resumed: false }));
        assert_eq!(plugin.echo("[1]").await.unwrap().body, "[1]");
        let pid = plugin.call("pid", Payload::empty()).await.unwrap();
        assert_eq!(pid.body, plugin.child.id().to_string());
        let unknown = plugin.call("nothing", Payload::empty()).await.unwrap_err();
        assert!(matches!(unknown, CallFailure::Remote(error) if error.code == "METHOD_UNKNOWN"));
        plugin.call(HEALTH, Payload::bincode(&()).unwrap()).await.unwrap();
        plugin.peer.ping().await.unwrap();
        let large = vec![7; 1 << 20];
        let echoed = plugin.call("echo", Payload::raw(large.clone())).await.unwrap();
        assert!(echoed.body == large);
        plugin.peer.drain(Drain { budget: PATIENCE, reason: "disable".into(), save_state: true });
        assert_eq!(plugin.peer.closed().await, EndReason::Goodbye("drained".to_owned()));
        assert_eq!(plugin.exit().await.code(), Some(0));
    });
}

/// How the session ends that a mode breaks before, or instead of, its Hello.
#[test]
fn faults_of_the_greeting_end_the_session_each_in_its_own_way() {
    type Check = fn(&EndReason) -> bool;
    let cases: &[(&str, Check)] = &[
        ("never-session", |end| matches!(end, EndReason::HandshakeTimeout { .. })),
        ("never-hello", |end| matches!(end, EndReason::HandshakeTimeout { .. })),
        ("call-before-hello", |end| {
            matches!(end, EndReason::Violation(Violation::HelloMissing { .. }))
        }),
        ("hello-twice", |end| matches!(end, EndReason::Violation(Violation::HelloTwice))),
        (
            "protocol",
            |end| matches!(end, EndReason::VersionIncompatible { theirs, .. } if theirs.major == 99),
        ),
        ("bad-magic", |end| matches!(end, EndReason::Violation(Violation::FrameTooLong { .. }))),
        ("hello-trailing 3", |end| {
            matches!(end, EndReason::Violation(Violation::HelloTrailing { trailing: 3 }))
        }),
        ("close-session", |end| matches!(end, EndReason::Closed)),
        ("exit-at-once", |end| matches!(end, EndReason::Closed)),
        ("abort-at-once", |end| matches!(end, EndReason::Closed)),
    ];
    for (mode, is_expected) in cases {
        play(async || {
            let plugin = Plugin::start(mode);
            let end = plugin.peer.closed().await;
            assert!(is_expected(&end), "{mode}: {end:?}");
        });
    }
}

#[test]
fn faults_once_ready_end_the_session_each_in_its_own_way() {
    type Check = fn(&Violation) -> bool;
    let cases: &[(&str, Check)] = &[
        ("oversized-length", |v| matches!(v, Violation::FrameTooLong { length: 0xffff_ffff, .. })),
        ("late-hello", |v| matches!(v, Violation::HelloTwice)),
        ("unknown-message 201", |v| {
            matches!(v, Violation::UnknownMessage { discriminant: 201, .. })
        }),
        ("trailing-header 2", |v| matches!(v, Violation::HeaderTrailing { trailing: 2, .. })),
        ("forged-length", |v| matches!(v, Violation::HeaderMalformed { discriminant: 4, .. })),
        ("body-on-ping", |v| matches!(v, Violation::BodyUnexpected { length: 6, .. })),
        ("reply-unknown", |v| matches!(v, Violation::ReplyUnknown { .. })),
        ("double-reply", |v| matches!(v, Violation::ReplyTwice { .. })),
        ("call-id-reuse", |v| matches!(v, Violation::CallIdReused { .. })),
        ("unknown-stream", |v| matches!(v, Violation::StreamUnknown { .. })),
        ("unknown-pong", |v| matches!(v, Violation::PongUnexpected { .. })),
        ("call-flood", |v| matches!(v, Violation::TooManyCalls { .. })),
        // Which rule the noise breaks first is the noise's.
        ("garbage-session", |_| true),
    ];
    for (mode, is_expected) in cases {
        play(async || {
            let plugin = Plugin::start(mode);
            plugin.init().await.unwrap();
            // What `double-reply` waits for; the others have broken the session by then, or are about to.
            let _ = plugin.echo("1").await;
            match plugin.peer.closed().await {
                EndReason::Violation(violation) if is_expected(&violation) => {}
                end => panic!("{mode}: {end:?}"),
            }
        });
    }
}

#[test]
fn stalls_are_seen_by_their_deadlines() {
    play(async || {
        let plugin = Plugin::start("slow-frame");
        plugin.init().await.unwrap();
        assert!(matches!(plugin.peer.closed().await, EndReason::SlowFrame { have: 7, .. }));
    });
    play(async || {
        let plugin = Plugin::start("truncated-frame");
        plugin.init().await.unwrap();
        let end = plugin.peer.closed().await;
        assert!(matches!(end, EndReason::Closed | EndReason::Stream(_)), "{end:?}");
    });
    play(async || {
        let plugin = Plugin::start("never-reads");
        plugin.init().await.unwrap();
        // More than any socket buffer holds.
        let calls =
            (0..7).map(|_| plugin.peer.call(Call::new("echo", Payload::raw(vec![0; 1 << 20]))));
        let calls: Vec<_> = calls.collect();
        let end = plugin.peer.closed().await;
        assert!(matches!(end, EndReason::PeerUnresponsive { .. }), "{end:?}");
        drop(calls);
    });
}

#[test]
fn init_fails_hangs_or_crashes() {
    play(async || {
        let plugin = Plugin::start("fail-init");
        let failed = plugin.init().await.unwrap_err();
        assert!(matches!(failed, CallFailure::Remote(error) if error.code == "NO_DATABASE"));
    });
    play(async || {
        let plugin = Plugin::start("hang-in-init");
        assert!(matches!(plugin.init().await.unwrap_err(), CallFailure::Timeout { .. }));
    });
    play(async || {
        let mut plugin = Plugin::start("crash-in-init");
        let ended = plugin.init().await.unwrap_err();
        assert!(matches!(ended, CallFailure::Ended(EndReason::Closed)), "{ended:?}");
        assert_eq!(plugin.exit().await.signal(), Some(6));
    });
    play(async || {
        let plugin = Plugin::start("garbage-init");
        let reply = plugin.init().await.unwrap();
        assert!(reply.decode_bincode::<InitReply>().is_err());
    });
}

#[test]
fn calls_crash_hang_and_health_checks_fail() {
    play(async || {
        let mut plugin = Plugin::start("crash-after 2");
        plugin.init().await.unwrap();
        plugin.echo("1").await.unwrap();
        plugin.echo("2").await.unwrap();
        let ended = plugin.echo("3").await.unwrap_err();
        assert!(matches!(ended, CallFailure::Ended(EndReason::Closed)), "{ended:?}");
        assert_eq!(plugin.exit().await.signal(), Some(6));
    });
    play(async || {
        let plugin = Plugin::start("silent-call");
        plugin.init().await.unwrap();
        assert!(matches!(plugin.echo("1").await.unwrap_err(), CallFailure::Timeout { .. }));
        plugin.peer.ping().await.unwrap();
    });
    play(async || {
        let plugin = Plugin::start("unhealthy");
        plugin.init().await.unwrap();
        let sick = plugin.call(HEALTH, Payload::bincode(&()).unwrap()).await.unwrap_err();
        assert!(matches!(sick, CallFailure::Remote(error) if error.code == "DISK_FULL"));
        plugin.echo("1").await.unwrap();
    });
}

#[test]
fn stops_are_ignored_or_answered_wrongly() {
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::Pid;
    let pid = |plugin: &Plugin| Pid::from_raw(i32::try_from(plugin.child.id()).unwrap());
    let drain = || Drain { budget: SOON, reason: "disable".into(), save_state: false };

    play(async || {
        let plugin = Plugin::start("ignore-sigterm");
        plugin.init().await.unwrap();
        kill(pid(&plugin), Signal::SIGTERM).unwrap();
        // It answers still, so the signal did nothing: it came before the ping.
        plugin.peer.ping().await.unwrap();
        plugin.peer.drain(drain());
        plugin.peer.ping().await.unwrap();
    });
    // The control: the same signal ends one that does not ignore it.
    play(async || {
        let mut plugin = Plugin::start("ignore-drain");
        plugin.init().await.unwrap();
        plugin.peer.drain(drain());
        plugin.peer.ping().await.unwrap();
        kill(pid(&plugin), Signal::SIGTERM).unwrap();
        assert_eq!(plugin.exit().await.signal(), Some(15));
    });
    play(async || {
        let plugin = Plugin::start("stop-self");
        plugin.init().await.unwrap();
        let status = waitpid(pid(&plugin), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(status, WaitStatus::Stopped(_, Signal::SIGSTOP)), "{status:?}");
    });
    play(async || {
        let mut plugin = Plugin::start("exit-in-drain 9");
        plugin.init().await.unwrap();
        plugin.peer.drain(drain());
        assert_eq!(plugin.exit().await.code(), Some(9));
    });
    play(async || {
        let plugin = Plugin::start("goodbye-and-stay");
        plugin.init().await.unwrap();
        plugin.peer.drain(drain());
        assert_eq!(plugin.peer.closed().await, EndReason::Goodbye("drained".to_owned()));
        kill(pid(&plugin), Signal::SIGTERM).unwrap();
        let status = waitpid(pid(&plugin), Some(WaitPidFlag::WNOHANG)).unwrap();
        assert_eq!(status, WaitStatus::StillAlive);
    });
}
