//! What a plugin measures, as it is told to its host; and what it is granted, as the host tells it.
#![allow(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

mod probe;

use std::time::Duration;

use bulkhead_plugin_sdk::testing::{Harness, Running, pass, paused};
use probe::{Granted, Measure, Probe};

async fn measure(running: &Running<Probe>, name: &str, value: f64) {
    running.call::<Measure>(&(name.to_owned(), value)).await.unwrap();
}

/// Longer than changes are gathered.
const A_MOMENT: Duration = Duration::from_secs(5);

#[test]
fn what_is_measured_is_told_a_moment_later_and_to_the_next_supervisor() {
    paused(async {
        let running = Harness::<Probe>::new().start().await.unwrap();
        pass(A_MOMENT).await;
        measure(&running, "made_total", 2.0).await;
        measure(&running, "made_total", 1.0).await;
        measure(&running, "level", 7.5).await;
        measure(&running, "wait_seconds", 0.2).await;
        assert_eq!(running.metric("made_total", &[("kind", "probe")]), Some(3.0));
        assert_eq!(running.metric("made_total", &[("kind", "other")]), None);
        assert_eq!(running.told_metric("made_total", &[("kind", "probe")]), None, "not at once");
        pass(A_MOMENT).await;
        assert_eq!(running.told_metric("made_total", &[("kind", "probe")]), Some(3.0));
        assert_eq!(running.told_metric("level", &[]), Some(7.5));
        assert_eq!(running.told_metric("wait_seconds", &[]), Some(1.0));

        running.forget_metrics();
        pass(A_MOMENT).await;
        assert_eq!(running.told_metric("level", &[]), None, "nothing happened, nothing is told");
        running.lose_session();
        measure_lost(&running).await;
        assert!(running.resume().await.unwrap());
        pass(A_MOMENT).await;
        assert_eq!(running.told_metric("level", &[]), Some(7.5));

        let running = running.crash_and_restart().await.unwrap();
        assert_eq!(running.metric("level", &[]), None, "another process measures anew");
        running.stop().await.unwrap();
    });
}

/// Without a session nobody can be called.
async fn measure_lost(running: &Running<Probe>) {
    running.call::<Measure>(&("level".to_owned(), 1.0)).await.unwrap_err();
}

#[test]
fn what_is_beyond_the_bounds_is_dropped_and_the_log_is_told_once() {
    paused(async {
        let running = Harness::<Probe>::new().start().await.unwrap();
        for name in ["Bad Name", "level_total", "worse-", "level"] {
            measure(&running, name, 1.0).await;
        }
        pass(A_MOMENT).await;
        assert_eq!(running.told_metric("level", &[]), Some(1.0), "the others go on");
        assert_eq!(running.metric("Bad Name", &[]), None);
        let warned =
            running.logs().into_iter().filter(|record| record.message.contains("measured"));
        assert_eq!(warned.count(), 1);
        running.stop().await.unwrap();
    });
}

#[test]
fn what_is_granted_can_change_while_it_runs() {
    paused(async {
        let running = Harness::<Probe>::new().permission("read:x").start().await.unwrap();
        let granted =
            async |permission: &str| running.call::<Granted>(&permission.to_owned()).await.unwrap();
        assert!(granted("read:x").await);
        assert!(!granted("write:x").await);
        running.permit(&["write:x"]).await.unwrap();
        assert!(!granted("read:x").await);
        assert!(granted("write:x").await);
        running.stop().await.unwrap();
    });
}
