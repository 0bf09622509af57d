//! Plugins are gone when it was promised, whatever they do.

use std::fs;
use std::time::{Duration, Instant};

use bulkhead_sandbox::{Cause, Status};

use super::harness::{Running, Service, Supervisor, shell};
use crate::link::{Exited, Reply, Request, StageName};

const SECOND: Duration = Duration::from_secs(1);
/// What a busy machine may add to a deadline.
const MARGIN: Duration = Duration::from_secs(2);

fn names(exited: &Exited) -> Vec<StageName> {
    assert!(exited.stages.windows(2).all(|pair| pair[0].at <= pair[1].at), "{:?}", exited.stages);
    exited.stages.iter().map(|stage| stage.name).collect()
}

fn exit(supervisor: &mut Supervisor) -> Exited {
    supervisor.exit().0
}

#[test]
fn a_plugin_that_listens_ends_by_sigterm() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let script = "trap 'echo bye; exit 7' TERM; echo up; while :; do read x <&3; done";
    let mut plugin = supervisor.shell(&service, "polite", script);
    plugin.stdout.wait_for("up");
    supervisor.done(plugin.stop(Duration::ZERO, 60 * SECOND));
    let exited = exit(&mut supervisor);
    assert_eq!(exited.generation, plugin.spawned.generation);
    assert_eq!(exited.exit.0.status, Status::Exited(7));
    assert_eq!(exited.exit.0.cause, Cause::Code(7));
    assert_eq!(
        names(&exited),
        [StageName::Sigterm, StageName::Exited, StageName::Empty, StageName::Removed]
    );
    assert_eq!(plugin.stdout.read_to_end(), "bye\n");
    if let Some(cgroup) = &plugin.spawned.cgroup {
        assert!(!cgroup.exists(), "{} stays", cgroup.display());
    }
    // Stopping what is gone is already satisfied.
    supervisor.done(plugin.stop(Duration::ZERO, SECOND));
}

#[test]
fn a_plugin_that_does_not_listen_is_killed_at_its_deadline() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let mut plugin = supervisor.shell(
        &service,
        "deaf",
        "trap '' TERM; echo up; read x <&3; read x <&3; while :; do :; done",
    );
    plugin.stdout.wait_for("up");
    let begin = Instant::now();
    supervisor.done(plugin.stop(Duration::ZERO, SECOND));
    let exited = exit(&mut supervisor);
    let took = begin.elapsed();
    assert!((SECOND..SECOND + MARGIN).contains(&took), "{took:?}");
    assert_eq!(exited.exit.0.cause, Cause::Killed);
    assert_eq!(names(&exited)[..2], [StageName::Sigterm, StageName::Sigkill]);
}

#[test]
fn what_it_leaves_behind_is_killed_with_it() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let script = "(trap '' TERM; while :; do read y <&3; done) & echo up; exit 3";
    let mut plugin = supervisor.shell(&service, "parent", script);
    let exited = exit(&mut supervisor);
    assert_eq!(exited.exit.0.status, Status::Exited(3));
    assert_eq!(names(&exited).last(), Some(&StageName::Removed));
    // The child held the output; it ends all the same.
    assert_eq!(plugin.stdout.read_to_end(), "up\n");
}

#[test]
fn a_stop_is_brought_forward_and_never_put_off() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let deaf = "trap '' TERM; echo up; while :; do read x <&3; done";
    let mut plugin = supervisor.shell(&service, "deaf", deaf);
    plugin.stdout.wait_for("up");
    let begin = Instant::now();
    supervisor.done(plugin.stop(Duration::ZERO, 3600 * SECOND));
    supervisor.done(plugin.stop(Duration::ZERO, SECOND));
    supervisor.done(plugin.stop(3600 * SECOND, 3600 * SECOND));
    let exited = exit(&mut supervisor);
    let took = begin.elapsed();
    assert!((SECOND..SECOND + MARGIN).contains(&took), "{took:?}");
    assert!(names(&exited).contains(&StageName::Sigkill));
}

#[test]
fn a_large_import_puts_off_no_deadline() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let mut plugin =
        supervisor.shell(&service, "deaf", "trap '' TERM; echo up; while :; do read x <&3; done");
    plugin.stdout.wait_for("up");
    let package = service.package("large", std::path::Path::new("/bin/sh"));
    let asset = fs::File::create(package.join("asset")).unwrap();
    // Sparse: it costs the test nothing, and the launcher the hashing of all of it.
    asset.set_len(512 << 20).unwrap();
    let begin = Instant::now();
    supervisor.done(plugin.stop(Duration::ZERO, Duration::from_millis(200)));
    supervisor.send(Request::Import { source: package });
    let exited = exit(&mut supervisor);
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(200) + MARGIN, "{took:?}");
    assert_eq!(exited.exit.0.cause, Cause::Killed);
}

fn deaf(service: &Service, supervisor: &mut Supervisor) -> Running {
    let script = "trap '' TERM; echo up; while :; do read x <&3; done";
    let mut plugin = supervisor.shell(service, "deaf", script);
    plugin.stdout.wait_for("up");
    plugin
}

/// Has it stopped in no time, and waits for its end while these requests are served.
fn stop_amid(supervisor: &mut Supervisor, mut plugin: Running, flood: Vec<Request>) -> Duration {
    let begin = Instant::now();
    supervisor.send(plugin.stop(Duration::ZERO, Duration::from_millis(20)));
    for request in flood {
        supervisor.send(request);
    }
    plugin.stdout.read_to_end();
    begin.elapsed()
}

#[test]
fn starts_of_large_packages_put_off_no_deadline() {
    const STARTS: usize = 16;
    let service = Service::start("");
    let mut supervisor = service.ready();
    let plugin = deaf(&service, &mut supervisor);
    let digest = service.long_list(10_000);
    let ids: Vec<String> = (0..STARTS).map(|number| format!("large-{number}")).collect();
    for id in &ids {
        supervisor.ask(Request::Allot { id: id.parse().unwrap() }).unwrap();
    }
    let starts = ids.iter().map(|id| Request::Spawn(Box::new(shell(id, digest, "")))).collect();
    let took = stop_amid(&mut supervisor, plugin, starts);
    assert!(took < MARGIN, "{took:?}");
    let answers = supervisor.answers(1 + STARTS);
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
    // The control: the list was read.
    let looked_up = refused.filter(|failure| failure.details["stage"] == "lookup").count();
    assert_eq!(looked_up, STARTS, "{answers:?}");
}

#[test]
fn what_is_due_is_done_before_the_next_request() {
    const REQUESTS: usize = 32;
    let service = Service::start("");
    let mut supervisor = service.ready();
    let plugin = deaf(&service, &mut supervisor);
    // Such a trust store takes a while to be looked at, which each of these requests does.
    let trust = service.path().join("trust");
    fs::create_dir(&trust).unwrap();
    let ids = vec!["\"a\""; 15_000].join(",");
    for number in 0..48 {
        fs::write(trust.join(format!("{number:016X}.toml")), format!("plugins = [{ids}]")).unwrap();
    }
    let begin = Instant::now();
    supervisor.ask(Request::TrustChange).unwrap();
    let each = begin.elapsed();
    let took = stop_amid(&mut supervisor, plugin, vec![Request::TrustChange; REQUESTS]);
    // A few of them may have come before the deadline.
    assert!(took < MARGIN + each * 4, "{took:?} with {each:?} for each");
    let answers = supervisor.answers(1 + REQUESTS);
    let changes = answers.iter().filter(|answer| matches!(answer, Ok(Reply::TrustChange(Some(_)))));
    assert_eq!(changes.count(), REQUESTS, "{answers:?}");
}
