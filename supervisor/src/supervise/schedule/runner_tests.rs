//! The runner under paused time: a clock of the test's own, and a world in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::clock::Clock;
use super::runner::Runner;
use super::world::{Errand, World};
use super::{Ran, Schedules};
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::manifest::Manifest;
use crate::supervise::principal::Principal;
use crate::supervise::store::{RunEnd, RunOutcome, ScheduleKey};

/// What is stored, in memory: the rows as lines.
#[derive(Default)]
struct State {
    plugins: BTreeMap<PluginId, (Arc<Manifest>, bool)>,
    accounted: BTreeMap<(PluginId, String), Timestamp>,
    rules: BTreeMap<(PluginId, String), String>,
    told: Vec<String>,
    calls: Vec<Errand>,
    runs: u64,
    /// How long a call takes.
    takes: Duration,
    /// What every call and every record fails with.
    fails: Option<Failure>,
    full: bool,
}

#[derive(Clone, Default)]
struct Memory(Rc<RefCell<State>>);

fn at(text: &str) -> Timestamp {
    format!("2026-11-28T{text}Z").parse().unwrap()
}

fn id(text: &str) -> PluginId {
    text.parse().unwrap()
}

fn minute(due: Option<Timestamp>) -> String {
    due.map_or("asked".to_owned(), |due| due.strftime("%H:%M").to_string())
}

impl Memory {
    fn tell(&self, line: String) {
        self.0.borrow_mut().told.push(line);
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().told)
    }

    fn full(&self) -> Result<(), Failure> {
        let full = || Failure::new(Code::StorageFailed, "the disk is full");
        if self.0.borrow().full { Err(full()) } else { Ok(()) }
    }

    /// Installs a plugin, or another version of it.
    fn install(&self, plugin: &str, schedules: &str, up: bool) {
        let text = format!("id = '{plugin}'\nversion = '1.0.0'\n{schedules}");
        let manifest = Arc::new(Manifest::parse(text.as_bytes(), Path::new("p")).unwrap());
        self.0.borrow_mut().plugins.insert(id(plugin), (manifest, up));
    }
}

impl World for Memory {
    fn plugins(&self) -> Vec<(Arc<Manifest>, bool)> {
        self.0.borrow().plugins.values().cloned().collect()
    }

    fn is_up(&self, plugin: &PluginId) -> bool {
        self.0.borrow().plugins.get(plugin).is_some_and(|(_, up)| *up)
    }

    async fn adopt(
        &self,
        plugin: &PluginId,
        rules: Vec<(String, String)>,
        now: Timestamp,
    ) -> Result<BTreeMap<String, Timestamp>, Failure> {
        self.full()?;
        let state = &mut *self.0.borrow_mut();
        let mut accounted = BTreeMap::new();
        for (name, rule) in rules {
            let key = (plugin.clone(), name.clone());
            if state.rules.insert(key.clone(), rule.clone()) != Some(rule) {
                state.accounted.insert(key.clone(), now);
            }
            accounted.insert(name, state.accounted[&key]);
        }
        Ok(accounted)
    }

    async fn note(
        &self,
        key: ScheduleKey,
        due: Timestamp,
        count: u64,
        why: RunOutcome,
    ) -> Result<(), Failure> {
        self.full()?;
        self.tell(format!("{} {} {count} {}", key.name, minute(Some(due)), why.name()));
        self.0.borrow_mut().accounted.insert((key.plugin, key.name), due);
        Ok(())
    }

    async fn begin(
        &self,
        key: ScheduleKey,
        due: Option<Timestamp>,
        _: Timestamp,
    ) -> Result<u64, Failure> {
        self.full()?;
        self.tell(format!("{} {} begins", key.name, minute(due)));
        let state = &mut *self.0.borrow_mut();
        if let Some(due) = due {
            state.accounted.insert((key.plugin, key.name), due);
        }
        state.runs += 1;
        Ok(state.runs)
    }

    async fn end(&self, number: u64, end: RunEnd) -> Result<(), Failure> {
        let outcome = end.code.unwrap_or("ok".to_owned());
        self.tell(format!("{number} {outcome} after {} ms", end.duration_ms));
        Ok(())
    }

    async fn call(&self, errand: Errand) -> Result<(), Failure> {
        let takes = self.0.borrow().takes;
        self.0.borrow_mut().calls.push(errand);
        sleep(takes).await;
        self.0.borrow().fails.clone().map_or(Ok(()), Err)
    }

    fn warn(&self, key: &ScheduleKey, due: Option<Timestamp>, failure: &Failure) {
        self.tell(format!("warning: {} {} {}", key.name, minute(due), failure.code));
    }
}

/// A runner, and what a test does to its world.
struct Bench {
    world: Memory,
    schedules: Schedules,
    changed: Arc<Notify>,
    begun: Instant,
    task: JoinHandle<()>,
}

impl Bench {
    /// One at 12:00.
    fn start(world: &Memory) -> Self {
        Self::start_at(world, at("12:00"))
    }

    fn start_at(world: &Memory, now: Timestamp) -> Self {
        let (schedules, changed) = (Schedules::default(), Arc::new(Notify::new()));
        let runner = Runner::new(world.clone(), Clock::set(now, 1), [7; 16]);
        let inbox = schedules.take_inbox().unwrap();
        let task = tokio::task::spawn_local(runner.run(inbox, Arc::clone(&changed)));
        Self { world: world.clone(), schedules, changed, begun: Instant::now(), task }
    }

    /// Lets that many seconds go by since the start, and gives what was told meanwhile.
    async fn after(&self, seconds: u64) -> Vec<String> {
        // In the midst of a second, when all of the second before is done.
        sleep_until(self.begun + Duration::from_millis(seconds * 1000 + 500)).await;
        self.world.told()
    }

    fn set_up(&self, plugin: &str, up: bool) {
        self.world.0.borrow_mut().plugins.get_mut(&id(plugin)).unwrap().1 = up;
        self.changed.notify_one();
    }

    async fn ask(&self, plugin: &str, schedule: &str) -> Result<Ran, Failure> {
        let person = Some("dr.smith".parse().unwrap());
        let principal = Principal::user(0, person);
        self.schedules.run_now(id(plugin), schedule.to_owned(), principal).await
    }
}

fn test(work: impl AsyncFnOnce(Memory)) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, work(Memory::default()));
}

const MINUTELY: &str = "[[schedule]]\ncron = '* * * * *'\nmethod = 'sweep'\n";

#[test]
fn schedules_of_several_plugins_run_when_they_are_due_and_in_their_order() {
    test(async |world| {
        world.install("a", "[[schedule]]\ncron = '*/2 * * * *'\nmethod = 'even'", true);
        world.install("b", "[[schedule]]\ncron = '1-59/2 * * * *'\nmethod = 'odd'", true);
        let bench = Bench::start(&world);
        assert_eq!(bench.after(59).await, [""; 0]);
        assert_eq!(bench.after(60).await, ["odd 12:01 begins", "1 ok after 0 ms"]);
        let next = ["even 12:02 begins", "2 ok after 0 ms", "odd 12:03 begins", "3 ok after 0 ms"];
        assert_eq!(bench.after(180).await, next);
        let calls = &world.0.borrow().calls;
        let called: Vec<(&str, &str)> =
            calls.iter().map(|one| (one.plugin.as_str(), one.schedule.method.as_str())).collect();
        assert_eq!(called, [("b", "odd"), ("a", "even"), ("b", "odd")]);
        assert!(calls.iter().all(|one| one.principal == Principal::schedule()));
        assert!(calls[0].trace.trace_id != calls[1].trace.trace_id, "each has a trace of its own");
    });
}

#[test]
fn what_is_due_while_one_runs_goes_by_the_policy() {
    for (policy, then) in [
        ("skip", vec!["sweep 12:02 1 skipped-overlap", "1 ok after 90000 ms"]),
        ("queue", vec!["1 ok after 90000 ms", "sweep 12:02 begins"]),
        ("allow", vec!["sweep 12:02 begins", "1 ok after 90000 ms"]),
    ] {
        test(async |world| {
            world.0.borrow_mut().takes = Duration::from_secs(90);
            world.install("a", &format!("{MINUTELY}overlap = '{policy}'"), true);
            let bench = Bench::start(&world);
            assert_eq!(bench.after(60).await, ["sweep 12:01 begins"]);
            assert_eq!(bench.schedules.show(id("a")).await["sweep"].running, 1);
            assert_eq!(bench.after(151).await, then, "{policy}");
        });
    }
}

#[test]
fn nothing_runs_while_its_plugin_is_disabled() {
    test(async |world| {
        world.install("a", &format!("{MINUTELY}missed = 'once'"), false);
        let bench = Bench::start(&world);
        assert_eq!(bench.after(150).await, [""; 0], "it was never enabled");
        assert!(bench.schedules.show(id("a")).await.is_empty());
        bench.set_up("a", true);
        assert_eq!(bench.after(151).await, [""; 0], "so it has nothing to make up for");
        assert_eq!(bench.after(180).await, ["sweep 12:03 begins", "1 ok after 0 ms"]);
        bench.set_up("a", false);
        assert_eq!(bench.after(330).await, [""; 0]);
        assert_eq!(bench.schedules.show(id("a")).await["sweep"].due, None);
        bench.set_up("a", true);
        let back = ["sweep 12:04 1 missed", "sweep 12:05 begins", "2 ok after 0 ms"];
        assert_eq!(bench.after(331).await, back);
        let next = bench.schedules.show(id("a")).await["sweep"];
        assert_eq!((next.due, next.start), (Some(at("12:06")), Some(at("12:06"))));
        // That it is uninstalled needs no news to be seen.
        world.0.borrow_mut().plugins.clear();
        assert_eq!(bench.after(600).await, [""; 0]);
    });
}

/// The first runner is gone as a supervisor is: at any moment, without a word.
#[test]
fn another_runner_goes_on_where_the_one_before_was() {
    test(async |world| {
        let nightly = "[[schedule]]\ncron = '30 2 * * *'\nmethod = 'nightly'\n";
        world.install("once", &format!("{nightly}missed = 'once'"), true);
        world.install("skip", nightly, true);
        world.0.borrow_mut().takes = Duration::from_secs(60);
        let bench = Bench::start_at(&world, at("02:29"));
        assert_eq!(bench.after(61).await, ["nightly 02:30 begins", "nightly 02:30 begins"]);
        bench.task.abort();
        world.0.borrow_mut().takes = Duration::ZERO;
        let bench = Bench::start_at(&world, at("02:30:10"));
        assert_eq!(bench.after(120).await, [""; 0], "it was begun, so it is not repeated");
        bench.task.abort();
        let days_later: Timestamp = "2026-12-01T12:00Z".parse().unwrap();
        let bench = Bench::start_at(&world, days_later);
        let told = bench.after(120).await;
        let expected = [
            "nightly 02:30 2 missed",
            "nightly 02:30 begins",
            "nightly 02:30 3 missed",
            "3 ok after 0 ms",
        ];
        let sorted = |mut lines: Vec<String>| {
            lines.sort();
            lines
        };
        assert_eq!(sorted(told), sorted(expected.map(str::to_owned).to_vec()));
    });
}

#[test]
fn another_version_has_its_own_schedules() {
    test(async |world| {
        world.install("a", MINUTELY, true);
        let bench = Bench::start(&world);
        bench.after(60).await;
        let other = "[[schedule]]\ncron = '*/5 * * * *'\nmethod = 'other'\n";
        world.0.borrow_mut().takes = Duration::from_secs(30);
        assert_eq!(bench.after(120).await, ["sweep 12:02 begins"]);
        world.install("a", other, true);
        bench.changed.notify_one();
        assert_eq!(bench.after(270).await, ["2 ok after 30000 ms"], "it is ended all the same");
        assert_eq!(bench.schedules.show(id("a")).await.keys().collect::<Vec<_>>(), ["other"]);
        assert_eq!(bench.after(301).await, ["other 12:05 begins"]);
    });
}

#[test]
fn a_run_that_is_asked_for_is_answered_with_what_it_came_to() {
    test(async |world| {
        world.install(
            "a",
            "[[schedule]]\ncron = '0 0 1 1 *'\nmethod = 'yearly'\ntimeout = '2m'",
            true,
        );
        world.install("off", MINUTELY, false);
        world.0.borrow_mut().takes = Duration::from_secs(30);
        let bench = Bench::start(&world);
        let (ran, refused) = tokio::join!(bench.ask("a", "yearly"), async {
            bench.after(1).await;
            bench.ask("a", "yearly").await
        });
        assert_eq!(ran, Ok(Ran { number: 1, duration_ms: 30_000 }));
        assert_eq!(refused.unwrap_err().code, Code::Conflict);
        {
            let calls = &world.0.borrow().calls;
            assert_eq!(calls[0].principal.on_behalf_of.as_deref(), Some("dr.smith"));
        }
        world.told();
        world.0.borrow_mut().fails = Some(Failure::new(Code::CallFailed, "no"));
        assert_eq!(bench.ask("a", "yearly").await.unwrap_err().message, "no");
        let told = [
            "yearly asked begins",
            "2 CALL_FAILED after 30000 ms",
            "warning: yearly asked CALL_FAILED",
        ];
        assert_eq!(world.told(), told);
        assert_eq!(bench.ask("off", "sweep").await.unwrap_err().code, Code::Conflict);
    });
}

#[test]
fn what_cannot_be_written_down_does_not_run() {
    test(async |world| {
        world.install("a", MINUTELY, true);
        let bench = Bench::start(&world);
        bench.after(1).await;
        world.0.borrow_mut().full = true;
        assert_eq!(bench.after(61).await, ["warning: sweep 12:01 STORAGE_FAILED"]);
        assert!(world.0.borrow().calls.is_empty());
        world.0.borrow_mut().full = false;
        assert_eq!(bench.after(121).await, ["sweep 12:02 begins", "1 ok after 0 ms"]);
        // Nor are schedules taken on that nobody knows how they stand.
        world.0.borrow_mut().full = true;
        world.install("b", MINUTELY, true);
        assert!(bench.schedules.show(id("b")).await.is_empty());
        assert_eq!(bench.ask("b", "sweep").await.unwrap_err().code, Code::StorageFailed);
        world.0.borrow_mut().full = false;
        bench.after(130).await;
        assert_eq!(bench.schedules.show(id("b")).await["sweep"].due, Some(at("12:03")));
    });
}

#[test]
fn it_is_settled_when_every_run_has_ended() {
    test(async |world| {
        world.0.borrow_mut().takes = Duration::from_secs(20);
        world.install("a", MINUTELY, true);
        let bench = Bench::start(&world);
        bench.after(60).await;
        bench.schedules.settle().await;
        assert_eq!(world.told(), ["1 ok after 20000 ms"]);
    });
}
