//! The real program: bootstrap socket on descriptor 3, sessions by SCM_RIGHTS, signals, exit codes.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::time::Duration;

use bulkhead_ipc_driver::{Handler, IncomingCall, Peer};
use bulkhead_ipc_protocol::host::{STATE_LIST, STATE_SET, StateSet};
use bulkhead_ipc_protocol::lifecycle::{INIT, InitReply, InitRequest};
use bulkhead_ipc_protocol::log_line;
use bulkhead_ipc_protocol::{Call, CallError, Drain, EndReason, Hello, Limits, Payload};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::task::LocalSet;

const PROGRAM: &str = env!("CARGO_BIN_EXE_appointments");
const DEADLINE: Duration = Duration::from_secs(20);

/// A host without memory.
struct Forgetful;

impl Handler for Forgetful {
    fn call(
        &self,
        call: IncomingCall,
    ) -> impl Future<Output = Result<Payload, CallError>> + 'static {
        let reply = match call.method.as_str() {
            STATE_LIST => Payload::bincode(&Vec::<(String, u64)>::new()),
            STATE_SET => {
                call.payload.decode_bincode::<StateSet>().expect("a write");
                Payload::bincode(&1_u64)
            }
            other => panic!("nobody asked for {other}"),
        };
        std::future::ready(Ok(reply.expect("numbers encode")))
    }
}

/// The program as the launcher starts it, and the launcher's end of its bootstrap socket.
struct Started {
    child: Child,
    bootstrap: OwnedFd,
}

impl Started {
    fn new(resume_secs: &str) -> Self {
        let (bootstrap, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .expect("a socket pair");
        // A shell moves the socket to descriptor 3: std cannot, without unsafe code.
        let child = Command::new("/bin/sh")
            .args(["-c", "exec \"$0\" 3<&0 0</dev/null", PROGRAM])
            .env("BULKHEAD_RESUME_SECS", resume_secs)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        Self { child, bootstrap }
    }

    fn session(&self) -> Peer {
        let (ours, theirs) = StdUnixStream::pair().expect("a socket pair");
        let descriptors = [theirs.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let text = [IoSlice::new(b"session")];
        sendmsg::<()>(self.bootstrap.as_raw_fd(), &text, &rights, MsgFlags::empty(), None)
            .expect("the program takes sessions");
        ours.set_nonblocking(true).expect("a socket can be non-blocking");
        let stream = tokio::net::UnixStream::from_std(ours).expect("a runtime is there");
        let hello = Hello::new("bulkhead", semver::Version::new(0, 0, 0)).expect("a short name");
        let (peer, driver) =
            bulkhead_ipc_driver::connect(stream, hello, Limits::default(), Forgetful);
        tokio::task::spawn_local(driver);
        peer
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().expect("it runs").try_into().expect("a pid"))
    }

    async fn exit(self) -> (Option<i32>, String) {
        let output = within(self.child.wait_with_output()).await.expect("it can be waited for");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("done within 20 s")
}

async fn init(peer: &Peer) -> InitReply {
    let request = InitRequest {
        plugin_id: "appointments".into(),
        version: "0.1.0".into(),
        config: r#"{"defaultDuration": 30}"#.into(),
        permissions: vec!["read:appointments".into()],
    };
    let payload = Payload::bincode(&request).expect("it encodes");
    let reply = within(peer.call(Call::new(INIT, payload))).await.expect("it initializes");
    reply.decode_bincode().expect("a reply to init")
}

async fn appointments(peer: &Peer) -> serde_json::Value {
    let reply = within(peer.call(Call::new("appointments/stats", Payload::json_bytes("{}")))).await;
    let stats: serde_json::Value =
        serde_json::from_slice(&reply.expect("an answer").body).expect("JSON");
    stats["appointments"].clone()
}

/// The messages of the log records on standard error, which must have nothing else.
fn logged(stderr: &str) -> Vec<String> {
    let record = |line: &str| {
        log_line::decode(line.as_bytes()).unwrap_or_else(|| panic!("not a record: {line}")).message
    };
    stderr.lines().map(record).collect()
}

fn test(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    LocalSet::new().block_on(&runtime.expect("an event loop"), work);
}

#[test]
fn serves_over_a_restart_of_the_supervisor_and_ends_at_a_drain() {
    test(async {
        let program = Started::new("30");
        let first = program.session();
        assert!(!init(&first).await.resumed);
        let encounters = include_str!("../../data/fhir/Encounter.ndjson");
        let import = Call::new("appointments/import", Payload::raw(encounters));
        within(first.call(import)).await.expect("good records");
        assert_eq!(appointments(&first).await, 697);

        let second = program.session();
        assert!(init(&second).await.resumed, "the process is the same");
        within(first.closed()).await;
        assert_eq!(appointments(&second).await, 697);

        second.drain(Drain {
            budget: Duration::from_secs(5),
            reason: "disable".into(),
            save_state: true,
        });
        assert_eq!(within(second.closed()).await, EndReason::Goodbye("disable".into()));
        let (code, stderr) = program.exit().await;
        assert_eq!(code, Some(0), "{stderr}");
        assert_eq!(logged(&stderr), ["loaded", "imported"]);
    });
}

#[test]
fn sigterm_ends_it_in_order_and_sigint_does_not() {
    test(async {
        let program = Started::new("30");
        let peer = program.session();
        init(&peer).await;
        kill(program.pid(), Signal::SIGINT).expect("it is ours");
        assert_eq!(appointments(&peer).await, 0, "control-C is the supervisor's business");
        kill(program.pid(), Signal::SIGTERM).expect("it is ours");
        assert_eq!(within(peer.closed()).await, EndReason::Goodbye("terminated".into()));
        let (code, stderr) = program.exit().await;
        assert_eq!(code, Some(0), "{stderr}");
        assert_eq!(logged(&stderr), ["loaded"]);
    });
}

#[test]
fn left_alone_it_ends_after_the_resume_time() {
    test(async {
        let program = Started::new("1");
        let (code, stderr) = program.exit().await;
        assert_eq!(code, Some(0), "there was nothing to save");
        assert!(stderr.contains("no session with the supervisor for 1 s"), "{stderr}");
    });
}

#[test]
fn when_the_launcher_is_gone_it_ends() {
    test(async {
        let Started { child, bootstrap } = Started::new("30");
        drop(bootstrap);
        let output = within(child.wait_with_output()).await.expect("it can be waited for");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    });
}

#[test]
fn by_hand_it_explains_itself() {
    let run = |argument: &[&str]| {
        let output =
            std::process::Command::new(PROGRAM).args(argument).output().expect("it starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, stdout, stderr) = run(&[]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("bulkhead run"), "{stderr}");
    let (code, stdout, stderr) = run(&["--describe"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let described: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(described["name"], "appointments");
    assert_eq!(described["protocol"], "1.0.0");
    let methods = ["cancel", "create", "expire", "get", "import", "list", "reschedule", "stats"];
    assert_eq!(described["methods"], serde_json::json!(methods));
    assert_eq!(run(&["--version"]).1, concat!("appointments ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(run(&["--help"]).0, Some(0));
}
