//! Places of a file system that does not answer, as one whose server is gone.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_sandbox::Mount;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::harness::{Running, Service, Supervisor, shell};
use crate::failure::{Code, Failure};
use crate::link::{Reply, Request};

/// A FUSE file system that nobody serves. Whoever asks anything of it waits until this is dropped, or dies.
struct Silent {
    _device: File,
}

impl Silent {
    fn mounted(at: &Path) -> std::io::Result<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse")?;
        let fd = device.as_raw_fd();
        let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other");
        mount(Some("silent"), at, Some("fuse"), MsFlags::empty(), Some(options.as_str()))?;
        Ok(Self { _device: device })
    }
}

/// A service that may show what is in a directory, and a plugin of it that hears no SIGTERM.
struct Scene {
    service: Service,
    supervisor: Supervisor,
    deaf: Running,
    silent: Silent,
    shown: tempfile::TempDir,
}

impl Scene {
    /// `None`, with the reason printed: it cannot be set up here.
    fn set(test: &str) -> Option<Self> {
        let skip = |why: &dyn std::fmt::Display| println!("SKIP {test}: {why}");
        // Mounts that only this test and its launcher see, and that go with them.
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| mount(None::<&str>, "/", None::<&str>, private, None::<&str>))
            .inspect_err(|errno| skip(&format!("only root has mounts of its own: {errno}")))
            .ok()?;
        let shown = tempfile::tempdir().unwrap();
        let service = Service::start(&format!("[mounts]\nread_only = [{:?}]", shown.path()));
        let mut supervisor = service.ready();
        let deaf = supervisor.deaf(&service, "deaf");
        let place = shown.path().join("silent");
        fs::create_dir(&place).unwrap();
        let silent = Silent::mounted(&place)
            .inspect_err(|error| skip(&format!("FUSE cannot be mounted: {error}")))
            .ok()?;
        Some(Self { service, supervisor, deaf, silent, shown })
    }

    fn place(&self) -> PathBuf {
        self.shown.path().join("silent")
    }

    /// Asks for a plugin that is shown a place; the number of the request.
    fn ask_for(&mut self, id: &str, place: &Path) -> u64 {
        let package = self.service.package(id, Path::new("/bin/sh"));
        let digest = self.supervisor.install(id, &package);
        let mut spawn = shell(id, digest, "read x <&3");
        spawn.policy.0.filesystem.mounts = vec![Mount::read_only(place, "/srv/place")];
        self.supervisor.send(Request::Spawn(Box::new(spawn)))
    }

    /// The other one is killed when it was promised, while nothing has been heard of that start.
    fn stop_meanwhile(&mut self, asked: u64) {
        let stop = self.deaf.stop(Duration::ZERO, Duration::from_millis(20));
        let stop = self.supervisor.send(stop);
        let (reply, _) = self.supervisor.answer(stop).unwrap();
        assert!(matches!(reply, Reply::Done), "{reply:?}, before the answer to {asked}");
        let (exited, _) = self.supervisor.exit();
        assert_eq!(exited.id, self.deaf.id);
        self.supervisor.done(self.deaf.acknowledge());
    }
}

fn failed(answer: Result<(Reply, Vec<std::os::fd::OwnedFd>), Failure>) -> Failure {
    match answer {
        Ok((reply, _)) => panic!("{reply:?}"),
        Err(failure) => failure,
    }
}

#[test]
fn a_place_that_cannot_be_looked_at_puts_off_nothing_else() {
    let Some(mut scene) = Scene::set("a_place_that_cannot_be_looked_at_puts_off_nothing_else")
    else {
        return;
    };
    let place = scene.place().join("within");
    let asked = scene.ask_for("waits", &place);
    scene.stop_meanwhile(asked);
    // Nor the start of another; of the same, one is enough.
    let mut other = scene.supervisor.shell(&scene.service, "other", "echo up; read x <&3");
    other.stdout.wait_for("up");
    let again = scene.supervisor.refused(Request::Release { id: "waits".parse().unwrap() });
    assert_eq!((again.code, &again.details["state"]), (Code::Conflict, &"busy".into()));
    let failure = failed(scene.supervisor.answer(asked));
    assert_eq!(failure.code, Code::Timeout, "{failure}");
    assert_eq!(failure.details["budgetMs"], 10_000);
    assert!(failure.message.contains(&*place.to_string_lossy()), "{failure}");
    // Once it answers, if only that it is gone, the place is looked at anew.
    drop(scene.silent);
    let place = scene.shown.path().join("there");
    fs::create_dir(&place).unwrap();
    let digest = scene.supervisor.install("waits", &scene.service.path().join("waits"));
    let mut spawn = shell("waits", digest, "test -d /srv/place && echo up; read x <&3");
    spawn.policy.0.filesystem.mounts = vec![Mount::read_only(&place, "/srv/place")];
    scene.supervisor.spawn(spawn).stdout.wait_for("up");
}

#[test]
fn a_place_that_cannot_be_mounted_puts_off_no_stop() {
    let Some(mut scene) = Scene::set("a_place_that_cannot_be_mounted_puts_off_no_stop") else {
        return;
    };
    // Its own path can be looked at: what is mounted there is known, whether or not it answers.
    let place = scene.place();
    let asked = scene.ask_for("waits", &place);
    scene.stop_meanwhile(asked);
    let failure = failed(scene.supervisor.answer(asked));
    assert_eq!(failure.code, Code::SandboxFailed, "{failure}");
    assert_eq!(failure.details["path"], place.to_string_lossy().as_ref());
    assert_eq!(failure.details["errno"], nix::libc::ETIMEDOUT);
    // It has left nothing behind, and others are started again.
    let mut other = scene.supervisor.shell(&scene.service, "other", "echo up; read x <&3");
    other.stdout.wait_for("up");
    scene.supervisor.done(Request::Release { id: "waits".parse().unwrap() });
}

#[test]
fn the_service_ends_while_a_place_does_not_answer() {
    let Some(mut scene) = Scene::set("the_service_ends_while_a_place_does_not_answer") else {
        return;
    };
    let within = scene.place().join("within");
    scene.ask_for("looked-at", &within);
    let asked = scene.ask_for("mounted", &scene.place());
    scene.stop_meanwhile(asked);
    scene.service.signal(nix::sys::signal::Signal::SIGTERM);
    scene.supervisor.send(Request::Bye);
    let Scene { mut service, supervisor, .. } = scene;
    drop(supervisor);
    let status = service.wait();
    assert!(status.success(), "{status}; {}", service.log());
}
