//! `uninstall`: what a plugin has is deleted with it, unless it is preserved, so a terminal is asked first.

use std::io::{self, Write};

use hyper::Method;

use super::Ended;
use super::args::Uninstall;
use super::client::{Ask, Client, Query};
use super::consent::{somebody_is_there, yes};
use super::problem::Problem;
use super::render::{Plugin, Screen, bytes};
use super::verbs::{answer, plugin};
use crate::failure::{Code, Failure};

pub(super) async fn uninstall(
    client: &Client,
    screen: &mut Screen,
    arguments: &Uninstall,
) -> Result<(), Ended> {
    let Uninstall { id, preserve_data, yes, force } = arguments;
    if !preserve_data && !yes && !screen.json() && somebody_is_there() {
        let reply = client.json(Ask::get(format!("/v1/plugins/{id}"))).await?;
        let plugin = plugin(&reply);
        if !force && !plugin.dependents.is_empty() {
            // The service would say so, but after the question.
            let refused = Failure::dependents_enabled(id, &plugin.dependents);
            return Err(Problem::from(refused).into());
        }
        let mut screen = Screen::stderr();
        if !question(&mut screen, &plugin, &mut io::stdin().lock())? {
            let message = format!("{id} was not uninstalled: it was not consented to");
            return Err(Problem::new(Code::ConsentRequired, message).into());
        }
    }
    let path = Query::of(format!("/v1/plugins/{id}"))
        .with("preserveData", preserve_data)
        .with("force", force);
    let reply = client.json(Ask::new(Method::DELETE, path)).await?;
    answer(screen, &reply, |screen| {
        screen.line(&format!("{id} is uninstalled"))?;
        match reply["archive"].as_str() {
            Some(archive) => screen.line(&format!(
                "what it left behind is in {archive}; `bulkhead install … --restore {archive}` \
                 takes it up again"
            )),
            None => Ok(()),
        }
    })
}

/// Says what goes, and asks whether it may.
fn question<W: Write>(
    screen: &mut Screen<W>,
    plugin: &Plugin,
    answers: &mut impl io::BufRead,
) -> io::Result<bool> {
    let id = &plugin.id;
    screen.line(&format!("Uninstalling {id} deletes for good:"))?;
    // Of one that is broken it cannot be told.
    if let Some(storage) = &plugin.storage {
        let one = if storage.data_files == 1 { "file" } else { "files" };
        let data = bytes(storage.data_bytes);
        screen.line(&format!("  its data      {data} in {} {one}", storage.data_files))?;
        screen.line(&format!("  its state     {}", bytes(storage.state_bytes)))?;
    } else {
        screen.line("  its data and its state")?;
    }
    screen.line("  its log, its configuration and its grants")?;
    screen.line(&format!(
        "`bulkhead uninstall {id} --preserve-data` keeps them in an archive instead."
    ))?;
    yes(screen, "Delete them?", answers)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_goes_is_said_before_the_answer() {
        let reply = json!({"id": "a", "storage": {"enforcement": "sampled", "limitBytes": 1 << 20,
            "stateBytes": 2048, "dataBytes": 3 << 20, "dataFiles": 7}});
        for (plugin, answer, expected, parts) in [
            (plugin(&reply), "y\n", true, ["3 MiB in 7 files", "2 KiB"]),
            (plugin(&json!({"id": "a"})), "\n", false, ["its data and its state", "uninstall a"]),
        ] {
            let mut screen = Screen::of_test(true);
            let agreed = question(&mut screen, &plugin, &mut answer.as_bytes()).unwrap();
            assert_eq!(agreed, expected);
            let text = screen.text();
            for part in parts.into_iter().chain(["its log", "--preserve-data", "[y/N]"]) {
                assert!(text.contains(part), "no {part:?} in\n{text}");
            }
        }
    }
}
