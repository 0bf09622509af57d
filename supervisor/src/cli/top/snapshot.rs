//! `top --json`: what the screen would show, as an object a line.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use super::feed::Feed;
use super::model::{Message, Model, Watched, update};
use crate::cli::Ended;
use crate::cli::client::Client;
use crate::cli::render::Screen;

/// How long a service that went away is waited for: long enough for a supervisor that restarts.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Serialize)]
struct Snapshot {
    /// RFC 3339, UTC.
    time: String,
    plugins: Vec<Plugin>,
}

/// What cannot be measured, or is not there, is null.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Plugin {
    id: String,
    version: String,
    state: String,
    pid: Option<i64>,
    uptime_ms: Option<u64>,
    memory_bytes: Option<u64>,
    memory_limit_bytes: Option<u64>,
    /// Of one CPU, over the interval.
    cpu_percent: Option<f64>,
    /// As the manifest has it.
    cpu_limit: Option<String>,
    pids: Option<u64>,
    pids_limit: Option<u64>,
    storage_bytes: Option<u64>,
    storage_limit_bytes: Option<u64>,
    /// Since the supervisor's start.
    restarts: u64,
    deaths: u64,
    /// Over the last 15 s, or the interval if that is longer.
    calls_per_second: Option<f64>,
    /// Of the calls, from 0 to 1.
    error_share: Option<f64>,
    layers: Option<Layers>,
}

/// Of the compartment, as measured.
#[derive(Serialize)]
struct Layers {
    enforced: usize,
    asked: usize,
    missing: Vec<&'static str>,
}

/// Prints one snapshot, over one interval; with `follow` one for each, until it is interrupted.
pub(super) async fn run(
    client: &Client,
    screen: &mut Screen,
    interval: Duration,
    follow: bool,
) -> Result<(), Ended> {
    let feed = Feed::new(client.clone());
    let mut model = Model::new(0, 0);
    let mut answered = Instant::now();
    // What is said of an interval takes a look at both of its ends.
    update(&mut model, Message::Sampled(feed.sample().await?));
    loop {
        tokio::time::sleep(interval).await;
        match feed.sample().await {
            Ok(sample) => {
                answered = Instant::now();
                update(&mut model, Message::Sampled(sample));
                measure(&feed, &mut model).await;
                let snapshot = serde_json::json!(Snapshot::new(&model));
                if follow {
                    screen.line(&snapshot.to_string())?;
                    screen.flush()?;
                } else {
                    screen.document(&snapshot)?;
                    return Ok(screen.flush()?);
                }
            }
            Err(problem) if !follow || answered.elapsed() > PATIENCE => return Err(problem.into()),
            Err(_) => {}
        }
    }
}

async fn measure(feed: &Feed, model: &mut Model) {
    let ids: Vec<String> = model.plugins.keys().cloned().collect();
    for id in ids {
        if let Some(storage) = feed.measure(&id).await {
            update(model, Message::Stored { id, storage });
        }
    }
}

impl Snapshot {
    fn new(model: &Model) -> Self {
        Self {
            time: Timestamp::now().to_string(),
            plugins: model.plugins.values().map(Plugin::new).collect(),
        }
    }
}

impl Plugin {
    fn new(watched: &Watched) -> Self {
        let row = watched.row.clone();
        let hundredths = |number: f64| (number * 100.0).round() / 100.0;
        Self {
            id: row.id,
            version: row.version,
            state: row.state,
            pid: row.process.map(|process| process.pid),
            uptime_ms: row.process.map(|process| process.uptime_ms),
            memory_bytes: row.memory,
            memory_limit_bytes: row.memory_limit,
            cpu_percent: watched.cpu.map(hundredths),
            cpu_limit: row.cpu_limit,
            pids: row.pids,
            pids_limit: row.pids_limit,
            storage_bytes: watched.storage.map(|storage| storage.used),
            storage_limit_bytes: match watched.storage {
                Some(storage) => storage.limit(row.storage_limit),
                None => row.storage_limit,
            },
            restarts: watched.counters.restarts,
            deaths: watched.counters.deaths,
            calls_per_second: watched.pace.calls_per_second().map(hundredths),
            error_share: watched.pace.error_share(),
            layers: row.layers.map(|layers| Layers {
                enforced: layers.enforced,
                asked: layers.asked(),
                missing: layers.missing,
            }),
        }
    }
}
