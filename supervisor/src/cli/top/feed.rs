//! What the service is asked for `top`.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;

use super::counters::Counters;
use super::history::Stretch;
use super::model::Message;
use super::page::{Text, printed};
use super::sample::{Moment, Row, Sample, Storage};
use crate::cli::client::{Ask, Client, Lines, Query, SseEvents};
use crate::cli::problem::Problem;
use crate::cli::render::{self, Screen};
use crate::cli::verbs;
use crate::failure::Code;
use crate::id::PluginId;

/// What the service remembers of a plugin is in points of so long.
const STEP: &str = "1m";
const STEP_LENGTH: Moment = 60_000;
const REMEMBERED: &str = "15m";
/// Lines of a log that are shown at first.
const TAIL: u32 = 200;
/// After a stream or a request that failed.
const AGAIN: Duration = Duration::from_secs(1);
/// Events that come together are answered by one request.
const TOGETHER: Duration = Duration::from_millis(50);

/// Asks, and knows the time.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    client: Client,
    begun: Instant,
}

impl Feed {
    pub(super) fn new(client: Client) -> Self {
        Self { client, begun: Instant::now() }
    }

    fn now(&self) -> Moment {
        self.begun.elapsed().as_millis() as Moment
    }

    /// All plugins as they are now.
    pub(super) async fn sample(&self) -> Result<Sample, Problem> {
        let (plugins, metrics) = tokio::join!(
            self.client.json(Ask::get("/v1/plugins")),
            self.client.bytes(Ask::get("/metrics")),
        );
        let (plugins, metrics) = (plugins?, metrics?);
        let plugins = plugins["plugins"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(Sample {
            at: self.now(),
            rows: plugins.iter().map(|plugin| Row::new(&verbs::plugin(plugin))).collect(),
            counters: Counters::parse(&String::from_utf8_lossy(&metrics)),
        })
    }

    /// Tells what the plugins do, at this pace and whenever it is asked to.
    pub(super) async fn watch(self, interval: Duration, now: &Notify, tell: Sender<Message>) {
        loop {
            let (message, pause) = match self.sample().await {
                Ok(sample) => (Message::Sampled(sample), interval),
                Err(problem) => {
                    let problem = problem.message;
                    (Message::Lost { at: self.now(), problem }, interval.min(AGAIN))
                }
            };
            if tell.send(message).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = now.notified() => tokio::time::sleep(TOGETHER).await,
            }
        }
    }

    /// Has the plugins looked at when something happens, and tells what they keep on disk.
    pub(super) async fn hear(self, now: &Notify, tell: Sender<Message>) {
        let mut since: Option<u64> = None;
        loop {
            let path = Query::of("/v1/events").with("follow", true).with_some("since", since);
            if let Ok(response) = self.client.open(Ask::get(path)).await {
                let mut events = SseEvents::new(response.into_body());
                while let Ok(Some(event)) = events.next().await {
                    since = event.id.as_deref().and_then(|id| id.parse().ok()).or(since);
                    if event.event.as_deref() != Some("plugin:resource:usage") {
                        now.notify_one();
                        continue;
                    }
                    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
                    let id = data["pluginId"].as_str().map(str::to_owned);
                    if let Some((id, storage)) = id.zip(Storage::of_event(&data))
                        && tell.send(Message::Stored { id, storage }).await.is_err()
                    {
                        return;
                    }
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// What a plugin keeps on disk, where that can be told.
    pub(super) async fn measure(&self, id: &str) -> Option<Storage> {
        let reply = self.client.json(Ask::get(format!("/v1/plugins/{id}"))).await.ok()?;
        Storage::of_plugin(&verbs::plugin(&reply))
    }

    /// What a plugin used in the last minutes, as far as the service remembers.
    pub(super) async fn remember(&self, id: &str) -> Vec<Stretch> {
        let path = Query::of(format!("/v1/plugins/{id}/usage"))
            .with("since", REMEMBERED)
            .with("step", STEP);
        // A service that is older than this program does not know the path.
        let reply = self.client.json(Ask::get(path)).await.unwrap_or_default();
        remembered(&reply, self.now(), Timestamp::now().as_millisecond())
    }

    /// The page of a plugin.
    pub(super) async fn inspect(&self, id: &str) -> Result<Vec<Text>, String> {
        let ask = Ask::get(format!("/v1/plugins/{id}"));
        let reply = self.client.json(ask).await.map_err(said)?;
        let mut screen = Screen::page();
        verbs::plugin(&reply).show(&mut screen).map_err(|error| error.to_string())?;
        Ok(printed(&screen.into_text()))
    }

    /// Tells a plugin's log as it grows. What stands in the way of it is told; a service that is
    /// away is waited for.
    pub(super) async fn log(self, id: String, tell: Sender<Message>) {
        let path: String = Query::of(format!("/v1/plugins/{id}/logs"))
            .with("lines", TAIL)
            .with("follow", true)
            .into();
        loop {
            let problem = match self.client.open(Ask::get(path.clone())).await {
                Ok(response) => {
                    if tell.send(Message::LogBegins { id: id.clone() }).await.is_err() {
                        return;
                    }
                    let mut lines = Lines::new(response.into_body());
                    while let Ok(Some(line)) = lines.next().await {
                        let line = log_line(&line);
                        if tell.send(Message::LogLine { id: id.clone(), line }).await.is_err() {
                            return;
                        }
                    }
                    Problem::new(Code::Unreachable, "the service broke the log off; asking again")
                }
                Err(problem) => problem,
            };
            let (id, again) = (id.clone(), problem.code == Code::Unreachable.to_string());
            let problem = said(problem);
            if tell.send(Message::LogBroken { id, problem }).await.is_err() || !again {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Enables a plugin; what is to be said about it.
    pub(super) async fn enable(&self, id: &str) -> Result<String, String> {
        let plugin: PluginId = id.parse().map_err(|error| format!("{error}"))?;
        let reply = verbs::enable_with(&self.client, &plugin, None).await.map_err(said)?;
        let took = reply["startedInMs"].as_f64().unwrap_or_default();
        Ok(format!("{id} is enabled; it was ready after {took:.1} ms"))
    }

    /// Disables a plugin; what is to be said about it.
    pub(super) async fn disable(&self, id: &str) -> Result<String, String> {
        let plugin: PluginId = id.parse().map_err(|error| format!("{error}"))?;
        let body = json!({ "saveState": true });
        let reply = verbs::disable_with(&self.client, &plugin, &body).await.map_err(said)?;
        let mut screen = Screen::page();
        render::stop(&mut screen, &reply).map_err(|error| error.to_string())?;
        // The first line of the timeline.
        let lines = printed(&screen.into_text()).into_iter().next().unwrap_or_default();
        Ok(lines.into_iter().map(|(text, _)| text).collect())
    }
}

fn said(problem: Problem) -> String {
    format!("{}: {}", problem.code, problem.message)
}

fn log_line(line: &str) -> Text {
    let mut screen = Screen::page();
    let record: Value = serde_json::from_str(line).unwrap_or_default();
    // Writing to memory does not fail.
    let _ = render::log(&mut screen, "", &record);
    // A record that has several lines is one here.
    printed(&screen.into_text().replace('\n', " ")).into_iter().next().unwrap_or_default()
}

/// The reply of `usage`, on the clock of this program. `wall` is now, in milliseconds since the
/// epoch.
fn remembered(reply: &Value, now: Moment, wall: i64) -> Vec<Stretch> {
    let points = reply["points"].as_array().map(Vec::as_slice).unwrap_or_default();
    let stretch = |point: &Value| {
        let begins: Timestamp = point["time"].as_str()?.parse().ok()?;
        let from = now - (wall - begins.as_millisecond());
        Some(Stretch {
            from,
            to: from + STEP_LENGTH,
            memory: point["memoryBytes"].as_u64(),
            cpu: point["cpuPercent"].as_f64(),
        })
    };
    points.iter().filter_map(stretch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_remembers_is_put_on_our_clock() {
        let reply = json!({"plugin": "a", "step": "1m", "points": [
            {"time": "1970-01-01T00:01:00Z", "seconds": 60, "memoryBytes": 5, "cpuPercent": null},
            {"time": "?", "seconds": 60, "memoryBytes": 5, "cpuPercent": 1.0},
            {"time": "1970-01-01T00:02:00Z", "seconds": 60, "memoryBytes": null, "cpuPercent": 2.5},
        ]});
        let found = remembered(&reply, 1_000, 200_000);
        let stretch = |from, memory, cpu| Stretch { from, to: from + 60_000, memory, cpu };
        assert_eq!(found, [stretch(-139_000, Some(5), None), stretch(-79_000, None, Some(2.5))]);
        assert_eq!(remembered(&Value::Null, 0, 0), []);
    }

    #[test]
    fn a_record_is_one_line_without_what_repaints_the_screen() {
        let record = json!({"time": "t", "stream": "stderr", "level": "error",
            "message": "a\nb\u{1b}[2J"});
        let line = log_line(&record.to_string());
        let text: String = line.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(text.trim_end(), "t error  a b\u{fffd}[2J");
        assert!(
            line.iter().any(|(text, tone)| text.trim() == "error" && *tone == render::Tone::Bad)
        );
    }
}
