use bulkhead_sandbox::kernel_audit::Object;
use bulkhead_sandbox::{Status, Usage};

use super::*;
use crate::id::Digest;
use crate::link::Json;

fn death(cause: Cause, uid: u32) -> Exited {
    let status = Status::Signaled { signal: 31, core: false };
    let usage = Usage::default();
    let exit = Exit { status, usage, cause, denied_call: None, denied_accesses: vec![] };
    Exited {
        id: plugin(),
        digest: Digest::of(b""),
        generation: 5,
        uid,
        exit: Json(exit),
        stages: vec![],
    }
}

fn plugin() -> PluginId {
    "victim".parse().unwrap()
}

fn call(uid: u32, call: &str) -> Denial {
    Denial { uid, refusal: Refusal::Seccomp { call: call.to_owned() } }
}

fn read(uid: u32, path: &str) -> Denial {
    let object = Some(Object::Path(path.into()));
    Denial { uid, refusal: Refusal::Landlock { access: "fs.read_file".to_owned(), object } }
}

#[tokio::test]
async fn a_death_gets_the_last_call_of_its_own_uid_once() {
    let denials = Denials::new(true);
    denials.known().begin(&plugin(), 7, 5, false);
    denials.add(call(7, "bpf"));
    denials.add(call(7, "ptrace"));
    denials.add(call(8, "mount"));
    let mut exited = death(Cause::Seccomp, 7);
    denials.explain(&mut exited).await;
    assert_eq!(exited.exit.0.denied_call.as_deref(), Some("ptrace"));
    assert_eq!(denials.of(&plugin()).len(), 1, "it is among what was refused");
    let mut another = death(Cause::Seccomp, 7);
    denials.explain(&mut another).await;
    assert_eq!(another.exit.0.denied_call, None, "a call is the cause of one death");
    let mut other_cause = death(Cause::Killed, 8);
    denials.explain(&mut other_cause).await;
    assert_eq!(other_cause.exit.0.denied_call, None);
}

#[tokio::test]
async fn a_record_that_comes_after_the_death_is_waited_for() {
    let denials = Denials::new(true);
    let late = Arc::clone(&denials);
    tokio::spawn(async move {
        tokio::task::yield_now().await;
        late.add(call(7, "ptrace"));
    });
    let mut exited = death(Cause::Seccomp, 7);
    denials.explain(&mut exited).await;
    assert_eq!(exited.exit.0.denied_call.as_deref(), Some("ptrace"));
}

#[tokio::test]
async fn a_death_is_told_with_what_landlock_refused_to_that_start() {
    let denials = Denials::new(true);
    denials.known().begin(&plugin(), 7, 4, false);
    denials.add(read(7, "/of/another/start"));
    denials.known().begin(&plugin(), 7, 5, false);
    denials.add(read(7, "/etc/shadow"));
    denials.add(read(8, "/of/another/plugin"));
    let mut exited = death(Cause::Code(1), 7);
    denials.explain(&mut exited).await;
    let told =
        "fs.read_file on \"/etc/shadow\" ([sandbox] read = [\"/etc/shadow\"] would allow it)";
    assert_eq!(exited.exit.0.denied_accesses, [told]);
    assert!(exited.exit.0.explain().contains(told), "{}", exited.exit.0.explain());
}

#[test]
fn a_denial_is_news_once_and_counted_afterwards() {
    let denials = Denials::new(true);
    assert!(denials.add(read(7, "/a")).is_none(), "nobody is known to have that uid");
    let early = denials.known().begin(&plugin(), 7, 5, false);
    assert_eq!(early.len(), 1, "what came before the plugin was known is its own");
    assert!(denials.add(read(7, "/a")).is_none());
    let news = denials.add(read(7, "/b")).unwrap();
    let refused = Refused::new(&read(7, "/b").refusal, Settings::Manifest);
    assert_eq!((news.plugin, news.refused), (plugin(), refused));
    let shown = serde_json::to_value(denials.of(&plugin())).unwrap();
    assert_eq!((&shown[1]["path"], &shown[1]["count"]), (&json!("/a"), &json!(2)));
    let another: PluginId = "another".parse().unwrap();
    denials.known().begin(&another, 7, 6, false);
    denials.add(read(7, "/c"));
    assert_eq!(denials.of(&plugin()).len(), 2, "the uid has another owner");
    assert_eq!(denials.of(&another).len(), 1);
}

#[test]
fn warnings_of_one_plugin_are_bounded() {
    let denials = Denials::new(true);
    denials.known().begin(&plugin(), 7, 5, false);
    let told = (0..1000)
        .filter_map(|number| denials.add(read(7, &format!("/srv/{number}"))))
        .filter(|news| denials.may_tell(&news.plugin).is_some())
        .count();
    assert!(told > 0 && told < 50, "{told}");
}

#[test]
fn what_nobody_asks_for_is_bounded() {
    let denials = Denials::new(true);
    for uid in 0..2 * KEPT as u32 {
        denials.add(call(uid, "bpf"));
        denials.add(read(uid, "/a"));
    }
    assert_eq!(denials.known().calls.len(), KEPT);
    assert_eq!(denials.known().early.len(), KEPT);
    assert_eq!(denials.known().take_call(0), None);
    assert!(denials.known().take_call(2 * KEPT as u32 - 1).is_some());
}

#[test]
fn where_denials_cannot_be_told_it_says_why() {
    let says = |denials: &Denials, abi: u32, what: &str| {
        let why = denials.unobservable(&plugin(), Some(abi)).unwrap();
        assert!(why.contains(what), "no {what:?} in {why:?}");
    };
    says(&Denials::new(false), 7, "bulkhead-audit.socket");
    let denials = Denials::new(true);
    assert_eq!(denials.unobservable(&plugin(), Some(7)), None, "it does not run");
    denials.known().begin(&plugin(), 7, 5, false);
    says(&denials, 7, "auditing is switched off");
    says(&denials, 6, "kernel 6.15");
    denials.known().begin(&plugin(), 7, 5, true);
    says(&denials, 7, "earlier supervisor");
    says(&denials, 6, "kernel 6.15");
}
