//! `bulkhead schedules`: what a plugin does by the clock.

use hyper::Method;
use serde_json::{Value, json};

use super::Ended;
use super::args::Schedules;
use super::client::{Ask, Client, encode_segments};
use super::problem::Problem;
use super::render::{self, Screen};
use super::verbs::answer;
use crate::failure::{Code, Failure};

pub(super) async fn run(
    client: &Client,
    screen: &mut Screen,
    arguments: &Schedules,
) -> Result<(), Ended> {
    let id = &arguments.id;
    if let Some(name) = &arguments.run {
        let path = format!("/v1/plugins/{id}/schedules/{}/run", encode_segments(name));
        let mut ask = Ask::new(Method::POST, path);
        if let Some(who) = &arguments.on_behalf_of {
            ask.headers.push(("bulkhead-on-behalf-of", who.clone()));
        }
        let reply = client.json(ask).await?;
        return answer(screen, &reply, |screen| {
            let took = reply["durationMs"].as_u64().unwrap_or_default();
            screen.line(&format!("{name} of {id} ran and took {took} ms"))
        });
    }
    let reply = client.json(Ask::get(format!("/v1/plugins/{id}/schedules"))).await?;
    let all = reply["schedules"].as_array().map(Vec::as_slice).unwrap_or_default();
    match &arguments.name {
        None => answer(screen, &reply, |screen| render::schedules(screen, all)),
        Some(name) => {
            let one = all.iter().find(|one| one["name"] == json!(name));
            let one: &Value = one.ok_or_else(|| {
                let message =
                    format!("{id} has no schedule {name}; `bulkhead schedules {id}` lists them");
                Problem::from(
                    Failure::new(Code::NotFound, message)
                        .with("what", "schedule")
                        .with("name", name),
                )
            })?;
            answer(screen, one, |screen| render::runs(screen, one))
        }
    }
}
