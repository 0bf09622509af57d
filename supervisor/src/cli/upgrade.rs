//! `bulkhead upgrade` and `rollback`.

use std::path::Path;

use hyper::Method;
use serde_json::{Map, Value, json};

use super::Ended;
use super::args::Upgrade;
use super::client::{Ask, Client};
use super::consent::warnings;
use super::install::Bringing;
use super::problem::{Problem, printable};
use super::render::{self, Screen};
use super::verbs::answer;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::manifest::Manifest;

pub(super) async fn upgrade(
    client: &Client,
    screen: &mut Screen,
    arguments: &Upgrade,
) -> Result<(), Ended> {
    let Upgrade { path, signature, word, dry_run, allow_downgrade } = arguments;
    let id = id_of(path)?;
    let mut options = Map::new();
    if *allow_downgrade {
        options.insert("allowDowngrade".to_owned(), json!(true));
    }
    let bringing = Bringing { path, signature: signature.as_deref(), word, dry_run: *dry_run };
    let to = format!("/v1/plugins/{id}/upgrade");
    let answered = bringing.send(client, &to, options, screen.json()).await?;
    let reply = &answered.reply;
    answer(screen, reply, |screen| {
        if *dry_run {
            render::review(screen, reply)?;
            return warnings(screen, reply);
        }
        screen.line(&told(reply, "is upgraded"))?;
        answered.warnings(screen)
    })
}

pub(super) async fn rollback(
    client: &Client,
    screen: &mut Screen,
    id: &PluginId,
) -> Result<(), Ended> {
    let ask = Ask::new(Method::POST, format!("/v1/plugins/{id}/rollback"));
    let reply = client.json(ask).await?;
    answer(screen, &reply, |screen| screen.line(&told(&reply, "is rolled back")))
}

fn told(plugin: &Value, what: &str) -> String {
    let text = |value: &Value| printable(value.as_str().unwrap_or("?"));
    let mut line = format!(
        "{} {what} to {}, and is {}",
        text(&plugin["id"]),
        text(&plugin["version"]),
        text(&plugin["state"])
    );
    if let Some(previous) = plugin["previous"]["version"].as_str() {
        let (id, previous) = (text(&plugin["id"]), printable(previous));
        line = format!("{line}; `bulkhead rollback {id}` returns to {previous}");
    }
    line
}

/// Which plugin that is: by the manifest of a directory, by the name of a package.
fn id_of(path: &Path) -> Result<PluginId, Problem> {
    if path.is_dir() {
        return Ok(Manifest::load(path)?.id);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    by_name(&name).ok_or_else(|| {
        let message = format!(
            "{} is neither a directory nor called `<id>-<version>.plugin`, as packages are",
            path.display()
        );
        Failure::new(Code::InvalidRequest, message).with("path", path).into()
    })
}

fn by_name(name: &str) -> Option<PluginId> {
    let stem = name.strip_suffix(".plugin")?;
    stem.match_indices('-').find_map(|(at, _)| {
        let (id, version) = (&stem[..at], &stem[at + 1..]);
        version.parse::<semver::Version>().ok()?;
        id.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_called_by_its_id_and_version() {
        for (name, id) in [
            ("a-1.0.0.plugin", Some("a")),
            ("appointment-scheduler-1.2.3.plugin", Some("appointment-scheduler")),
            ("a-2-1.0.0-rc.1.plugin", Some("a-2")),
            ("a-1.0.0-x-2.0.0.plugin", Some("a")),
            ("a-1.0.plugin", None),
            ("a-1.0.0", None),
            ("-1.0.0.plugin", None),
            ("A-1.0.0.plugin", None),
        ] {
            let found = by_name(name);
            assert_eq!(found.as_ref().map(PluginId::as_str), id, "{name}");
        }
    }

    #[test]
    fn what_was_done_is_told_with_the_way_back() {
        let plugin = json!({"id": "a", "version": "2.0.0", "state": "enabled",
            "previous": {"version": "1.0.0"}});
        assert_eq!(
            told(&plugin, "is upgraded"),
            "a is upgraded to 2.0.0, and is enabled; `bulkhead rollback a` returns to 1.0.0"
        );
    }
}
