//! Plugins are gone when it was promised, whatever they do.

use std::fs;
use std::time::{Duration, Instant};

use bulkhead_sandbox::{Cause, Status};

use super::harness::{Running, Service, Supervisor, shell};
use crate::clock::Monotonic;
use crate::failure::Failure;
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
    let plugin = supervisor.deaf(&service, "deaf");
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
    let plugin = supervisor.deaf(&service, "deaf");
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

/// Has it killed at once and asks for these meanwhile. Whether it was killed before so many of them were
/// answered, and all the answers.
fn kill_amid(
    supervisor: &mut Supervisor,
    plugin: &Running,
    flood: Vec<Request>,
    before: usize,
) -> (bool, Vec<Result<Reply, Failure>>) {
    let rest = flood.len() - before;
    let stop = supervisor.send(plugin.stop(Duration::ZERO, Duration::ZERO));
    for request in flood {
        supervisor.send(request);
    }
    supervisor.answer(stop).unwrap();
    let mut answers = supervisor.answers(before);
    let now = Monotonic::now();
    answers.extend(supervisor.answers(rest));
    let stages = exit(supervisor).stages;
    let killed = stages.iter().find(|stage| stage.name == StageName::Sigkill).unwrap().at;
    (killed < now, answers)
}

#[test]
fn starts_of_large_packages_put_off_no_deadline() {
    let service = Service::start("");
    let mut supervisor = service.ready();
    let plugin = supervisor.deaf(&service, "deaf");
    let digest = service.long_list(2000);
    let ids: Vec<String> = (0..8).map(|number| format!("large-{number}")).collect();
    for id in &ids {
        supervisor.ask(Request::Allot { id: id.parse().unwrap() }).unwrap();
    }
    let starts = ids.iter().map(|id| Request::Spawn(Box::new(shell(id, digest, "")))).collect();
    let (in_time, answers) = kill_amid(&mut supervisor, &plugin, starts, 1);
    assert!(in_time, "the list of a package was read first");
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
    // The control: the lists were read.
    let looked_up = refused.filter(|failure| failure.details["stage"] == "lookup").count();
    assert_eq!(looked_up, ids.len(), "{answers:?}");
}

#[test]
fn what_is_due_is_done_before_the_next_request() {
    const REQUESTS: usize = 32;
    let service = Service::start("");
    let mut supervisor = service.ready();
    let plugin = supervisor.deaf(&service, "deaf");
    // Such a trust store takes a moment to be looked at, which each of these requests does.
    let trust = service.path().join("trust");
    fs::create_dir(&trust).unwrap();
    let ids = vec!["\"a\""; 4000].join(",");
    fs::write(trust.join("0123456789ABCDEF.toml"), format!("plugins = [{ids}]")).unwrap();
    let flood = vec![Request::TrustChange; REQUESTS];
    let (in_time, answers) = kill_amid(&mut supervisor, &plugin, flood, REQUESTS / 2);
    assert!(in_time, "half of the requests were served first");
    let changes = answers.iter().filter(|answer| matches!(answer, Ok(Reply::TrustChange(Some(_)))));
    assert_eq!(changes.count(), REQUESTS, "{answers:?}");
}
