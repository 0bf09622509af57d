//! `bulkhead archives`: what uninstalled plugins have left behind.

use hyper::Method;
use serde_json::Value;

use super::Ended;
use super::args::{Archives, ArchivesVerb};
use super::client::{Ask, Client, encode_segments};
use super::render::{self, Screen};
use super::verbs::answer;

pub(super) async fn run(
    client: &Client,
    screen: &mut Screen,
    arguments: &Archives,
) -> Result<(), Ended> {
    match &arguments.what {
        None | Some(ArchivesVerb::Ls) => {
            let reply = client.json(Ask::get("/v1/archives")).await?;
            let all = reply["archives"].as_array().map(Vec::as_slice).unwrap_or_default();
            answer(screen, &reply, |screen| {
                render::archives(screen, all)?;
                let number = |value: &Value| value.as_u64().unwrap_or_default();
                render::total(screen, number(&reply["bytes"]), number(&reply["limit"]))
            })
        }
        Some(ArchivesVerb::Rm { name }) => {
            let path = format!("/v1/archives/{}", encode_segments(name));
            let reply = client.json(Ask::new(Method::DELETE, path)).await?;
            answer(screen, &reply, |screen| screen.line(&format!("{name} is removed")))
        }
    }
}
