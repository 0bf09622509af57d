//! The stop: whether the plugin ended by itself, in good order, and in its time.

use hyper::Method;
use serde_json::{Value, json};

use crate::cli::client::{Ask, Client};
use crate::cli::problem::Problem;
use crate::failure::Code;
use crate::id::PluginId;

pub(in crate::cli) async fn stop(client: &Client, id: &PluginId) -> Result<String, Problem> {
    let ask = Ask::new(Method::POST, format!("/v1/plugins/{id}/disable"));
    let reply = client.json(ask.body(&json!({ "saveState": true }))).await?;
    judge(&reply)
}

fn judge(reply: &Value) -> Result<String, Problem> {
    let timeline = reply["timeline"].as_array().map(Vec::as_slice).unwrap_or_default();
    let came = |stage: &str| timeline.iter().any(|moment| moment["stage"] == stage);
    let (total, budget) = (number(&reply["totalMs"]), number(&reply["budgetMs"]));
    let explained = reply["explanation"].as_str().unwrap_or("nothing is known of its end");
    let refuse = |code: Code, why: String| Err(Problem::new(code, why));
    if timeline.is_empty() {
        return refuse(Code::PluginDied, "it ran no more when it was to stop".to_owned());
    }
    if came("sigkill") {
        let why = format!("it had to be killed within its budget of {budget} ms: {explained}");
        return refuse(Code::Timeout, why);
    }
    if came("sigterm") {
        let why = "it did not end when it was asked to drain, and took a SIGTERM; the SDK ends \
                   main when the drain is done";
        return refuse(Code::Timeout, why.to_owned());
    }
    if !came("goodbye") {
        let why = format!("it ended without a goodbye when it was asked to drain: {explained}");
        return refuse(Code::PluginDied, why);
    }
    if reply["exit"]["status"]["exited"] != 0 {
        let why = format!("it said goodbye and did not end well: {explained}; see its log");
        return refuse(Code::PluginDied, why);
    }
    if !came("empty") {
        return refuse(Code::Timeout, "processes of it were left".to_owned());
    }
    if total > budget {
        let why = format!("it took {total} ms of its budget of {budget} ms");
        return refuse(Code::Timeout, why);
    }
    Ok(format!("it drained, said goodbye and ended after {total} ms of {budget} ms"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(stages: &[&str], exited: i32) -> Value {
        let timeline: Vec<Value> =
            stages.iter().map(|stage| json!({ "stage": stage, "atMs": 1.0 })).collect();
        json!({
            "timeline": timeline, "totalMs": 8, "budgetMs": 5000,
            "exit": { "status": { "exited": exited } }, "explanation": "as told",
        })
    }

    #[test]
    fn only_an_end_in_good_order_will_do() {
        let good = ["drain", "goodbye", "exited", "empty", "removed"];
        judge(&reply(&good, 0)).unwrap();
        for (stages, exited, why) in [
            (&["drain", "sigterm", "sigkill", "exited", "empty"][..], 0, "killed"),
            (&["drain", "goodbye", "sigterm", "exited", "empty"], 0, "SIGTERM"),
            (&["drain", "exited", "empty"], 0, "without a goodbye"),
            (&["drain", "goodbye", "exited", "empty"], 1, "did not end well"),
            (&["drain", "goodbye", "exited"], 0, "were left"),
            (&[], 0, "ran no more"),
        ] {
            let problem = judge(&reply(stages, exited)).unwrap_err();
            assert!(problem.message.contains(why), "{stages:?}: {problem:?}");
        }
        let mut late = reply(&good, 0);
        late["totalMs"] = json!(5001);
        assert!(judge(&late).unwrap_err().message.contains("5001"));
    }
}
