//! A service that trusts a key, and what a test asks of it.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Instant;

use nix::unistd::geteuid;

use super::harness::{PATIENCE, Service, Supervisor, shell};
use crate::archive::Archive;
use crate::failure::{Code, Failure};
use crate::id::Digest;
use crate::link::{Reply, Request};
use crate::trust::sample::Signing;
use crate::trust::{Scope, TrustStore};

/// A service, and a key that may sign `probe` and `probe-*` there.
pub(super) struct Trusting {
    pub(super) service: Service,
    pub(super) signing: Signing,
}

impl Trusting {
    pub(super) fn start(extra: &str) -> Self {
        // Uids of this test alone, to find its processes by.
        let uids = format!("[uids]\nfirst = {}\ncount = 100\n", first_uid());
        let heartbeat = "heartbeat = \"1m\"\n";
        let service = Service::with(&format!("{heartbeat}{extra}\n{uids}"));
        let trusting = Self { service, signing: Signing::new() };
        let scopes = ["probe", "probe-*"].map(|scope| scope.parse().unwrap());
        trusting.trust(&trusting.signing, scopes.to_vec());
        trusting
    }

    pub(super) fn store(&self) -> TrustStore {
        TrustStore::at(self.service.path().join("trust"))
    }

    pub(super) fn trust(&self, signing: &Signing, scopes: Vec<Scope>) {
        self.store().add(signing.public(), scopes, None, "now".to_owned()).unwrap();
    }

    pub(super) fn revoke(&self, signing: &Signing) {
        self.store().revoke(signing.public().id(), "now".to_owned()).unwrap();
    }

    pub(super) fn packages(&self) -> PathBuf {
        self.service.path().join("state/store")
    }

    /// A file with that content, where a supervisor would have it.
    pub(super) fn file(&self, content: &[u8]) -> File {
        let mut file = tempfile::tempfile_in(self.service.path()).unwrap();
        file.write_all(content).unwrap();
        file
    }

    pub(super) fn import(
        &self,
        supervisor: &mut Supervisor,
        content: &[u8],
        signature: &str,
    ) -> Result<Reply, Failure> {
        let asked = self.send(supervisor, content, signature);
        supervisor.answer(asked).map(|(reply, _)| reply)
    }

    pub(super) fn send(&self, supervisor: &mut Supervisor, content: &[u8], signature: &str) -> u64 {
        let signature = signature.to_owned();
        let request = Request::ImportPackage { signature };
        supervisor.send_with(request, &[self.file(content).as_fd()])
    }

    pub(super) fn import_signed(
        &self,
        supervisor: &mut Supervisor,
        content: &[u8],
    ) -> Result<Reply, Failure> {
        self.import(supervisor, content, &self.signing.sign(content))
    }

    /// What is in the store, hidden or not, but for these trees.
    pub(super) fn left_in_store(&self, but: &[Digest]) -> Vec<String> {
        let names = fs::read_dir(self.packages()).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !but.iter().any(|digest| name.starts_with(&digest.to_string())));
        names
    }

    #[track_caller]
    pub(super) fn nothing_is_left(&self) {
        assert_eq!(self.left_in_store(&[]), [""; 0]);
        assert_eq!(processes(), [0; 0]);
        let plugins = fs::read_dir(self.service.path().join("state/plugins")).unwrap();
        assert_eq!(plugins.count(), 0);
    }

    /// The same, of what nobody tells the end of.
    #[track_caller]
    pub(super) fn soon_nothing_is_left(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.left_in_store(&[]).is_empty() || !processes().is_empty() {
            assert!(Instant::now() < deadline, "still there: {:?}", self.left_in_store(&[]));
            std::thread::yield_now();
        }
        self.nothing_is_left();
    }

    /// Waits until a package is being opened.
    pub(super) fn wait_until_opened(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.left_in_store(&[]).iter().any(|name| name.starts_with(".unpack-"))
            || (geteuid().is_root() && processes().is_empty())
        {
            assert!(Instant::now() < deadline, "it is not opened; {}", self.service.log());
            std::thread::yield_now();
        }
    }
}

/// The processes of this test's compartments.
pub(super) fn processes() -> Vec<u32> {
    if !geteuid().is_root() {
        return Vec::new();
    }
    // The first is the supervisor's.
    let uids = first_uid() + 1..first_uid() + 100;
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let uid = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
        uids.contains(&uid).then_some(pid)
    });
    pids.collect()
}

pub(super) fn first_uid() -> u32 {
    1_920_000_000 + std::process::id() % 100_000 * 100
}

/// A plugin whose entry `bin/probe` is a shell.
pub(super) fn package() -> Vec<u8> {
    Archive::plugin(&fs::read("/bin/sh").unwrap()).package()
}

pub(super) fn digest(reply: Result<Reply, Failure>) -> Digest {
    match reply.unwrap() {
        Reply::Imported { digest, .. } => digest,
        other => panic!("{other:?}"),
    }
}

pub(super) fn refused(reply: Result<Reply, Failure>, reason: &str) {
    let failure = reply.expect_err("it must be refused");
    assert_eq!(failure.code, Code::SignatureInvalid, "{failure}");
    assert_eq!(failure.details["reason"], reason, "{failure}");
}

pub(super) fn allot(supervisor: &mut Supervisor, id: &str) {
    let (reply, _) = supervisor.ask(Request::Allot { id: id.parse().unwrap() }).unwrap();
    assert!(matches!(reply, Reply::Allotted { .. }), "{reply:?}");
}

pub(super) fn authorize(id: &str, digest: Digest) -> Request {
    Request::Authorize { id: id.parse().unwrap(), digest }
}

/// A start of the shell in [`package`].
pub(super) fn probe(digest: Digest, script: &str) -> crate::link::Spawn {
    crate::link::Spawn { entry: "bin/probe".into(), ..shell("probe", digest, script) }
}
