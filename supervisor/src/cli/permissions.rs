//! `bulkhead permissions`, `grant` and `revoke`: what a plugin may do of what it asks for.

use std::io;
use std::str::FromStr;

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
use crate::manifest::{HostPath, Permission};

/// What an operator can grant or withhold: a permission, or, beginning with `/`, a place of the
/// machine.
#[derive(Clone, Debug)]
pub(crate) enum Grantable {
    Permission(Permission),
    Place(HostPath),
}

impl FromStr for Grantable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return text
                .parse()
                .map(Self::Place)
                .map_err(|error: crate::manifest::BadPath| error.to_string());
        }
        text.parse()
            .map(Self::Permission)
            .map_err(|error: crate::manifest::BadPermission| error.to_string())
    }
}

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
    change(client, screen, arguments, |granted, named| {
        let mut all = granted.to_vec();
        all.extend(named.iter().cloned());
        all.sort();
        all.dedup();
        all
    })
    .await
}

/// Takes from what is granted. What the plugin does not even ask for is a slip of the pen.
pub(super) async fn revoke(
    client: &Client,
    screen: &mut Screen,
    arguments: &Permit,
) -> Result<(), Ended> {
    change(client, screen, arguments, |granted, named| {
        granted.iter().filter(|one| !named.contains(one)).cloned().collect()
    })
    .await
}

async fn change(
    client: &Client,
    screen: &mut Screen,
    arguments: &Permit,
    next: impl Fn(&[String], &[String]) -> Vec<String>,
) -> Result<(), Ended> {
    let Permit { id, what } = arguments;
    let (mut permissions, mut places) = (Vec::new(), Vec::new());
    for one in what {
        match one {
            Grantable::Permission(permission) => permissions.push(permission.to_string()),
            Grantable::Place(place) => places.push(place.to_string()),
        }
    }
    let before = client.json(Ask::get(path(id))).await?;
    let asked = names(&before["asked"], "name", |_| true);
    let had_places = names(&before["places"], "path", |place| place["granted"] == true);
    if let Some(other) = permissions.iter().find(|one| !asked.contains(one)) {
        return Err(not_asked(id, "permission", other).into());
    }
    let asked_places = names(&before["places"], "path", |_| true);
    if let Some(other) = places.iter().find(|one| !asked_places.contains(one)) {
        return Err(not_asked(id, "place", other).into());
    }
    // Only what is named is changed: the rest may be somebody else's work meanwhile.
    let mut body = json!({});
    if !permissions.is_empty() {
        let granted = texts(&before["granted"]);
        body["granted"] = json!(next(&granted, &permissions));
        body["expected"] = json!(granted);
    }
    if !places.is_empty() {
        body["places"] = json!(next(&had_places, &places));
        body["expectedPlaces"] = json!(had_places);
    }
    let reply = client.json(Ask::new(Method::PUT, path(id)).body(&body)).await?;
    answer(screen, &reply, |screen| {
        list(screen, id, &reply)?;
        if reply["places"] != before["places"] {
            screen.line(&format!(
                "places are mounted at a start: it has them so from the next start of {id} on"
            ))?;
        }
        Ok(())
    })
}

/// The names of those in a list for which that holds.
fn names(list: &Value, name: &str, holds: impl Fn(&Value) -> bool) -> Vec<String> {
    let those = list.as_array().into_iter().flatten().filter(|one| holds(one));
    those.filter_map(|one| one[name].as_str()).map(str::to_owned).collect()
}

fn not_asked(id: &PluginId, kind: &str, other: &str) -> Problem {
    let message = format!(
        "{id} does not ask for {other} in its plugin.toml; `bulkhead permissions {id}` shows what \
         it asks for"
    );
    Failure::new(Code::InvalidRequest, message).with(kind, other).into()
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
    let places = permissions["places"].as_array().map(Vec::as_slice).unwrap_or_default();
    if asked.is_empty() && places.is_empty() {
        return screen.line(&format!("{id} asks for no permission"));
    }
    let granted = texts(&permissions["granted"]);
    let state = |granted: bool| {
        if granted {
            ("granted".to_owned(), Tone::Good)
        } else {
            ("withheld".to_owned(), Tone::Faint)
        }
    };
    let mut rows = Vec::new();
    for ask in asked {
        let name = ask["name"].as_str().unwrap_or_default().to_owned();
        let state = state(granted.contains(&name));
        let opens = texts(&ask["opens"]).join("; ");
        rows.push(vec![(name, Tone::Plain), state, (opens, Tone::Plain)]);
    }
    for place in places {
        let path = place["path"].as_str().unwrap_or_default().to_owned();
        let state = state(place["granted"] == true);
        let opens = if place["writable"] == true { "to read and write" } else { "to read" };
        rows.push(vec![(path, Tone::Plain), state, (opens.to_owned(), Tone::Plain)]);
    }
    table(screen, &["PERMISSION", "STATE", "OPENS"], &rows)
}
