//! What was found about a plugin, and what it asks for.

use std::io::{self, Write};

use serde_json::{Map, Value};

use super::table::{Cell, table};
use super::{Screen, Tone};
use crate::cli::problem::printable;

/// What a plugin asks for that nobody has consented to yet: `added`, `removed` and `permissions` of
/// a refusal or a review.
pub(in crate::cli) fn asks<W: Write>(
    screen: &mut Screen<W>,
    of: &Map<String, Value>,
) -> io::Result<()> {
    let rows: Vec<Vec<Cell>> = texts(of.get("added"))
        .map(|line| vec![(line.to_owned(), Tone::Strong), (meaning(line, of), Tone::Plain)])
        .collect();
    table(screen, &["ASKS FOR", "WHICH MEANS"], &rows)?;
    for line in texts(of.get("removed")) {
        screen.line(&format!("no longer asked for: {}", printable(line)))?;
    }
    Ok(())
}

/// What a line of the asks means, for a person.
fn meaning(line: &str, of: &Map<String, Value>) -> String {
    if let Some(permission) = line.strip_prefix("permission ") {
        let all = of.get("permissions").and_then(Value::as_array).into_iter().flatten();
        let opens = all
            .filter(|one| one["name"] == permission)
            .flat_map(|one| texts(one.get("opens")))
            .collect::<Vec<_>>()
            .join("; ");
        return if opens.is_empty() {
            "calls of other plugins that need it".to_owned()
        } else {
            format!("it may call {opens}")
        };
    }
    let known = [
        ("connect to port ", "TCP to that port of any machine"),
        ("listen on port ", "others reach it at that port"),
        ("connect to ", "TCP to that host"),
        ("call ", "a system call beyond its profile's"),
        ("read ", "it sees that place of this machine"),
        ("write ", "it changes that place of this machine"),
        ("profile program", "it may start programs"),
        ("/proc", "it sees its own processes"),
    ];
    let found = known.iter().find(|(begin, _)| line.starts_with(begin));
    found.map_or_else(String::new, |(_, meaning)| (*meaning).to_owned())
}

/// A review as a whole.
pub(in crate::cli) fn review<W: Write>(screen: &mut Screen<W>, review: &Value) -> io::Result<()> {
    let text = |value: &Value| printable(value.as_str().unwrap_or_default());
    let id = screen.paint(Tone::Strong, &text(&review["id"]));
    screen.line(&format!("{id} {}", text(&review["version"])))?;
    screen.line(&format!("  digest       {}", text(&review["digest"])))?;
    for one in review["dependencies"].as_array().into_iter().flatten() {
        let found = one["found"].as_str().unwrap_or("not installed");
        let tone = if one["satisfied"] == true { Tone::Good } else { Tone::Doubtful };
        let found = screen.paint(tone, &printable(found));
        let (id, required) = (text(&one["id"]), text(&one["required"]));
        screen.line(&format!("  depends on   {id} {required}: {found}"))?;
    }
    for one in review["libraries"].as_array().into_iter().flatten() {
        screen.line(&format!("  library      {}", text(&one["path"])))?;
    }
    if let Some(crates) = review["crates"].as_u64() {
        screen.line(&format!("  crates       {crates}"))?;
    }
    if let Some(found) = review["advisories"].as_array() {
        screen.line(&format!("  advisories   {}", found.len()))?;
    }
    if let Some(score) = review["exposure"]["score"].as_f64() {
        screen.line(&format!("  exposure     {score:.1} of 10, expected on this machine"))?;
    }
    match review.as_object().filter(|of| texts(of.get("added")).next().is_some()) {
        Some(of) => {
            screen.line("it asks for what an operator must consent to:")?;
            asks(screen, of)
        }
        None => screen.line("it asks for nothing that takes a consent"),
    }
}

fn texts(value: Option<&Value>) -> impl Iterator<Item = &str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}
