//! `bulkhead permissions`, `grant` and `revoke`: what a plugin may do of what it asks for.

use std::io;

use hyper::Method;
use serde_json::{Value, json};

use super::Ended;
use super::args::Permit;
use super::client::{Ask, Client};
use super::problem::Problem;
use super::render::{Screen, Tone, table};
use super::verbs::answer;
use crate::failure::{Code, Failure};
use crate::id::PluginId;

pub(super) async fn show(client: &Client, screen: &mut Screen, id: &PluginId) -> Result<(), Ended> {
    let reply = client.json(Ask::get(path(id))).await?;
    answer(screen, &reply, |screen| list(screen, id, &reply))
}

/// Adds to what is granted.
pub(super) async fn grant(
    client: &Client,
    screen: &mut Screen,
    arguments: &Permit,
) -> Result<(), Ended> {
    change(client, screen, arguments, |mut granted, named| {
        granted.extend(named.iter().cloned());
        granted.sort();
        granted.dedup();
        granted
    })
    .await
}

/// Takes from what is granted. What the plugin does not even ask for is a slip of the pen.
pub(super) async fn revoke(
    client: &Client,
    screen: &mut Screen,
    arguments: &Permit,
) -> Result<(), Ended> {
    change(client, screen, arguments, |mut granted, named| {
        granted.retain(|one| !named.contains(one));
        granted
    })
    .await
}

async fn change(
    client: &Client,
    screen: &mut Screen,
    arguments: &Permit,
    next: impl FnOnce(Vec<String>, &[String]) -> Vec<String>,
) -> Result<(), Ended> {
    let Permit { id, permissions } = arguments;
    let named: Vec<String> = permissions.iter().map(ToString::to_string).collect();
    let before = client.json(Ask::get(path(id))).await?;
    let asked = before["asked"].as_array().map(Vec::as_slice).unwrap_or_default();
    if let Some(other) =
        named.iter().find(|one| asked.iter().all(|ask| ask["name"] != one.as_str()))
    {
        return Err(not_asked(id, other).into());
    }
    let expected = texts(&before["granted"]);
    let body = json!({ "granted": next(expected.clone(), &named), "expected": expected });
    let reply = client.json(Ask::new(Method::PUT, path(id)).body(&body)).await?;
    answer(screen, &reply, |screen| list(screen, id, &reply))
}

fn not_asked(id: &PluginId, permission: &str) -> Problem {
    let message = format!(
        "{id} does not ask for {permission} in its plugin.toml; `bulkhead permissions {id}` shows \
         what it asks for"
    );
    Failure::new(Code::InvalidRequest, message).with("permission", permission).into()
}

fn path(id: &PluginId) -> String {
    format!("/v1/plugins/{id}/permissions")
}

fn texts(list: &Value) -> Vec<String> {
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

fn list(screen: &mut Screen, id: &PluginId, permissions: &Value) -> io::Result<()> {
    let asked = permissions["asked"].as_array().map(Vec::as_slice).unwrap_or_default();
    if asked.is_empty() {
        return screen.line(&format!("{id} asks for no permission"));
    }
    let granted = texts(&permissions["granted"]);
    let rows: Vec<_> = asked
        .iter()
        .map(|ask| {
            let name = ask["name"].as_str().unwrap_or_default().to_owned();
            let state = if granted.contains(&name) {
                ("granted".to_owned(), Tone::Good)
            } else {
                ("withheld".to_owned(), Tone::Faint)
            };
            vec![(name, Tone::Plain), state, (texts(&ask["opens"]).join("; "), Tone::Plain)]
        })
        .collect();
    table(screen, &["PERMISSION", "STATE", "OPENS"], &rows)
}
