//! The cache: its bounds, what it counts, and its end.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::sync::Arc;
use std::time::Duration;

use bulkhead_plugin_sdk::testing::{Harness, Running, pass, paused};
use bulkhead_plugin_sdk::{
    About, Cache, CacheLimits, Deadline, Error, Host, Plugin, Reason, Result, Router, about, code,
};

/// A plugin that says at each stage of its end what its cache has.
struct Holder {
    cache: Cache<String, String>,
    host: Host,
}

impl Plugin for Holder {
    const ABOUT: About = about!();
    type Config = ();

    fn routes() -> Router<Self> {
        Router::new()
    }

    async fn init((): (), host: Host) -> Result<Self> {
        let cache = host.cache();
        cache.insert("patient".into(), "Hine".into())?;
        Ok(Self { cache, host })
    }

    async fn save(&self) -> Result<()> {
        self.host.log().info(format_args!("saves with {}", self.cache.len()));
        Ok(())
    }

    async fn shutdown(&self, _: Reason, _: Deadline) -> Result<()> {
        let late = self.cache.insert("late".into(), String::new()).unwrap_err();
        let made: Cache<u8, u8> = self.host.cache();
        made.insert(1, 1).unwrap_err();
        let gone = self.cache.get("patient").is_none();
        let text = format!("ends with {}, {gone}, {}", self.cache.len(), late.code());
        self.host.log().info(text);
        Ok(())
    }
}

#[test]
fn a_stop_empties_it_after_save_and_before_shutdown() {
    paused(async {
        for by_signal in [false, true] {
            let holder = Harness::<Holder>::new().start().await.unwrap();
            if by_signal {
                holder.terminate().await.unwrap();
            } else {
                holder.stop().await.unwrap();
            }
            let said: Vec<String> = holder.logs().into_iter().map(|one| one.message).collect();
            assert_eq!(said, ["saves with 1", "ends with 0, true, STOPPING"]);
        }
    });
}

/// A plugin that lends its host.
struct Lender;

thread_local! {
    static LENT: std::cell::RefCell<Option<Host>> = const { std::cell::RefCell::new(None) };
}

impl Plugin for Lender {
    const ABOUT: About = about!();
    type Config = ();
    fn routes() -> Router<Self> {
        Router::new()
    }
    async fn init((): (), host: Host) -> Result<Self> {
        LENT.set(Some(host));
        Ok(Self)
    }
}

/// The host of a plugin that runs.
fn running<T>(test: impl AsyncFnOnce(Host, Running<Lender>) -> T) -> T {
    paused(async {
        let running = Harness::<Lender>::new().start().await.unwrap();
        let host = LENT.take().expect("init has lent it");
        test(host, running).await
    })
}

/// A cache of a plugin that runs.
fn with<T>(limits: CacheLimits, test: impl AsyncFnOnce(Cache<String, String>) -> T) -> T {
    running(async |host, _running| test(host.cache_with(limits)).await)
}

fn insert(cache: &Cache<String, String>, key: &str, value: &str) {
    cache.insert(key.to_owned(), value.to_owned()).unwrap();
}

const ROOMY: CacheLimits = CacheLimits { entries: 3, bytes: 1000, age: Duration::from_secs(60) };

#[test]
fn what_was_not_used_for_longest_makes_room() {
    with(ROOMY, async |cache| {
        for key in ["a", "b", "c"] {
            insert(&cache, key, key);
        }
        assert_eq!(cache.get("a").as_deref(), Some("a"));
        insert(&cache, "d", "d");
        assert_eq!(cache.get("b"), None);
        // Replacing a value is a use of it, and evicts nothing.
        insert(&cache, "c", "C");
        insert(&cache, "e", "e");
        assert_eq!(cache.get("a"), None);
        for (key, value) in [("c", "C"), ("d", "d"), ("e", "e")] {
            assert_eq!(cache.get(key).as_deref(), Some(value));
        }
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.evictions), (4, 2, 2));
        assert_eq!((stats.entries, stats.expired, stats.refused), (3, 0, 0));
    });
}

#[test]
fn bytes_are_bounded_and_what_is_larger_is_refused() {
    let limits = CacheLimits { entries: 100, bytes: 100, ..ROOMY };
    with(limits, async |cache| {
        for number in 0..50 {
            insert(&cache, &number.to_string(), &"x".repeat(20));
            assert!(cache.stats().bytes <= 100, "{:?}", cache.stats());
        }
        // ["49","xxxxxxxxxxxxxxxxxxxx"] has 29 bytes.
        assert_eq!((cache.len(), cache.stats().bytes, cache.stats().evictions), (3, 87, 47));
        insert(&cache, "large", &"x".repeat(60));
        assert!(cache.get("large").is_some() && cache.stats().bytes <= 100);
        let error = cache.insert("large".to_owned(), "x".repeat(100)).unwrap_err();
        assert_eq!(error.code(), code::RESOURCE_EXHAUSTED);
        assert_eq!(error.details().unwrap()["limit"], 100);
        assert_eq!(cache.get("large"), None, "what it was is not what it is");
        assert_eq!(cache.stats().refused, 1);
        assert!(!format!("{cache:?}").contains("xx"), "what is in it is not shown");
    });
    let nothing = CacheLimits { entries: 0, ..ROOMY };
    with(nothing, async |cache| {
        let error = cache.insert(String::new(), String::new()).unwrap_err();
        assert_eq!(error.code(), code::RESOURCE_EXHAUSTED);
    });
}

#[test]
fn an_entry_lives_its_time_and_no_longer_however_often_it_is_used() {
    with(ROOMY, async |cache| {
        insert(&cache, "a", "a");
        pass(Duration::from_secs(40)).await;
        insert(&cache, "b", "b");
        assert!(cache.get("a").is_some());
        pass(Duration::from_secs(19)).await;
        assert!(cache.get("a").is_some());
        pass(Duration::from_secs(1)).await;
        assert_eq!(cache.get("a"), None);
        assert_eq!((cache.len(), cache.stats().expired, cache.stats().evictions), (1, 1, 0));
        pass(Duration::from_secs(40)).await;
        assert!(cache.is_empty());
        assert_eq!(cache.stats().bytes, 0);
    });
}

#[test]
fn get_or_makes_what_is_missing_and_keeps_nothing_stale() {
    with(ROOMY, async |cache| {
        let make = async |text: &str| Ok::<_, Error>(text.to_owned());
        assert_eq!(cache.get_or("a".into(), async || make("1").await).await.unwrap(), "1");
        assert_eq!(cache.get_or("a".into(), async || make("2").await).await.unwrap(), "1");
        let failed = cache.get_or("b".into(), async || Err(Error::new("NO", "no"))).await;
        assert_eq!(failed.unwrap_err().code(), "NO");
        assert!(cache.remove("a") && !cache.remove("a"));
        // What was read before the news came is returned, and not kept.
        let meanwhile = cache.clone();
        let old = async || {
            meanwhile.clear();
            make("old").await
        };
        assert_eq!(cache.get_or("c".into(), old).await.unwrap(), "old");
        assert_eq!(cache.get("c"), None);
        let large = cache.get_or("d".into(), async || Ok("x".repeat(2000))).await.unwrap();
        assert_eq!((large.len(), cache.stats().refused, cache.len()), (2000, 1, 0));
    });
}

#[test]
fn a_cache_can_be_used_from_other_threads() {
    with(ROOMY, async |cache| {
        let shared = Arc::new(cache);
        let other = shared.clone();
        std::thread::spawn(move || insert(&other, "a", "a")).join().unwrap();
        assert!(shared.get("a").is_some());
    });
}

/// Longer than changes are gathered.
const A_MOMENT: Duration = Duration::from_secs(5);

#[test]
fn how_all_caches_fare_is_measured_by_itself() {
    running(async |host, running| {
        let told = |what: &str| running.told_metric(&format!("sdk_cache_{what}"), &[]);
        pass(A_MOMENT).await;
        assert_eq!(told("hits_total"), None, "there is no cache yet");
        let one: Cache<String, String> = host.cache_with(ROOMY);
        pass(A_MOMENT).await;
        assert_eq!(told("hits_total"), Some(0.0), "a rate needs the zero before the first");
        let two: Cache<String, String> = host.cache_with(ROOMY);
        for key in ["a", "b", "c", "d"] {
            insert(&one, key, key);
        }
        insert(&two, "a", "a");
        one.insert("large".into(), "x".repeat(2000)).unwrap_err();
        assert_eq!((one.get("a"), one.get("d")), (None, Some("d".to_owned())));
        assert_eq!(two.get("a"), Some("a".to_owned()));
        pass(A_MOMENT).await;
        assert_eq!((told("hits_total"), told("misses_total")), (Some(2.0), Some(1.0)));
        assert_eq!((told("evictions_total"), told("refused_total")), (Some(1.0), Some(1.0)));
        let bytes = (one.stats().bytes + two.stats().bytes) as f64;
        assert_eq!((told("entries"), told("bytes")), (Some(4.0), Some(bytes)));

        running.forget_metrics();
        pass(A_MOMENT).await;
        assert_eq!(told("hits_total"), None, "nothing happened, nothing is told");
        drop(two);
        one.remove("d");
        pass(A_MOMENT).await;
        assert_eq!((told("hits_total"), told("entries")), (Some(2.0), Some(2.0)));
        pass(ROOMY.age).await;
        assert_eq!(one.get("b"), None);
        pass(A_MOMENT).await;
        assert_eq!((told("expired_total"), told("bytes")), (Some(2.0), Some(0.0)));
    });
}

#[test]
fn an_author_has_no_name_of_the_caches_metrics() {
    running(async |host, running| {
        host.metrics().counter("sdk_cache_hits_total", "", &[]).add(100);
        host.metrics().counter("cache_hits_total", "", &[]).add(3);
        host.cache::<u8, u8>().get(&1);
        pass(A_MOMENT).await;
        assert_eq!(running.told_metric("sdk_cache_hits_total", &[]), Some(0.0));
        assert_eq!(running.told_metric("sdk_cache_misses_total", &[]), Some(1.0));
        assert_eq!(running.told_metric("cache_hits_total", &[]), Some(3.0));
        let warned: Vec<String> = running.logs().into_iter().map(|it| it.message).collect();
        assert!(warned[0].contains("begins with sdk_"), "{warned:?}");
    });
}
