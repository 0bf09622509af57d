//! Every example of `docs/api.md`, run in order against a real service, its answer held against the
//! one that is shown, and against the API's description.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::collections::BTreeSet;
use std::path::Path;

use bulkhead_tests::process::{Program, bulkhead};
use bulkhead_tests::service::Service;
use bulkhead_tests::signing::Signer;
use bulkhead_tests::{description, lane, plugin, test_name};
use serde_json::Value;

const GUIDE: &str = include_str!("../../docs/api.md");

/// What is left out of an answer that is shown.
const ANYTHING: &str = "…";

/// A request that is shown, and the answer beneath it.
struct Example {
    /// The line of the guide, for messages.
    line: usize,
    command: String,
    /// `json` or `text`.
    kind: String,
    status: u16,
    answer: String,
}

/// A fenced block of the guide.
struct Block {
    line: usize,
    info: String,
    text: String,
}

fn blocks(guide: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut open = false;
    for (index, line) in guide.lines().enumerate() {
        if let Some(info) = line.strip_prefix("```") {
            open = !open;
            if open {
                found.push(Block { line: index + 1, info: info.to_owned(), text: String::new() });
            }
        } else if open && let Some(block) = found.last_mut() {
            block.text.push_str(line);
            block.text.push('\n');
        }
    }
    assert!(!open, "a block has no end");
    found
}

fn examples(guide: &str) -> Vec<Example> {
    let blocks = blocks(guide);
    let requests = blocks.iter().enumerate().filter(|(_, block)| block.text.contains("curl "));
    requests
        .map(|(index, request)| {
            let line = request.line;
            let answer = blocks.get(index + 1);
            let answer = answer.unwrap_or_else(|| panic!("line {line}: no answer is shown"));
            let (kind, status) = answer.info.split_once(' ').unwrap_or((&answer.info, "200"));
            assert!(matches!(kind, "json" | "text"), "line {line}: no answer is shown");
            Example {
                line,
                command: request.text.clone(),
                kind: kind.to_owned(),
                status: status.parse().unwrap(),
                answer: answer.text.clone(),
            }
        })
        .collect()
}

/// What was answered to one `curl`.
struct Answer {
    method: String,
    target: String,
    status: u16,
    media_type: String,
    body: String,
}

/// Runs the commands as they are shown, with a `curl` that keeps the answers.
fn run(service: &Service, command: &str) -> Vec<Answer> {
    const MARK: &str = "\u{1e}";
    let script = format!(
        "curl() {{ command curl -sS --max-time 60 -w '{MARK}%{{method}} %{{url}} %{{http_code}} \
         %{{content_type}}{MARK}' \"$@\"; }}\n{command}"
    );
    let shell = Program::new("sh").arg("-ec").arg(script).env("SOCKET", service.socket());
    let outcome = shell.directory(service.directory()).run();
    assert_eq!(outcome.code(), 0, "{command}\n{}", outcome.stderr);
    let parts: Vec<&str> = outcome.stdout.split(MARK).collect();
    parts
        .chunks_exact(2)
        .map(|pair| {
            let mut words = pair[1].splitn(4, ' ');
            let mut word = || words.next().unwrap().to_owned();
            let (method, url, status, media_type) = (word(), word(), word(), word());
            Answer {
                method,
                target: url.strip_prefix("http://bulkhead").unwrap().to_owned(),
                status: status.parse().unwrap(),
                media_type,
                body: pair[0].to_owned(),
            }
        })
        .collect()
}

/// Whether an answer has what is shown: each key, of the shown type; words that programs go by are
/// the same.
fn alike(shown: &Value, found: &Value, at: &str) -> Result<(), String> {
    const WORDS: [&str; 12] = [
        "/code",
        "/state",
        "/desired",
        "/applied",
        "/status",
        "/id",
        "/version",
        "/reason",
        "/pluginCode",
        "/stateSaved",
        "/forced",
        "/budgetMs",
    ];
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    match (shown, found) {
        (Value::String(text), _) if text == ANYTHING => Ok(()),
        (Value::Object(shown), Value::Object(found)) => {
            shown.iter().try_for_each(|(key, shown)| match found.get(key) {
                Some(found) => alike(shown, found, &format!("{at}/{key}")),
                None => Err(format!("{at} has no {key}")),
            })
        }
        (Value::Array(shown), Value::Array(found)) => {
            let open = shown.last().is_some_and(|last| last == ANYTHING);
            let listed = if open { &shown[..shown.len() - 1] } else { shown };
            if listed.len() > found.len() {
                return Err(format!("{at} has {} items, not {}", found.len(), listed.len()));
            }
            let mut pairs = listed.iter().zip(found).enumerate();
            pairs.try_for_each(|(index, (shown, found))| {
                alike(shown, found, &format!("{at}/{index}"))
            })
        }
        _ if kind(shown) != kind(found) => {
            Err(format!("{at} is {}, not {}", kind(found), kind(shown)))
        }
        _ if WORDS.iter().any(|word| at.ends_with(word)) && shown != found => {
            Err(format!("{at} is {found}, not {shown}"))
        }
        _ => Ok(()),
    }
}

/// Whether an answer has a line that begins with, or holds, each line that is shown, in order.
fn holds_lines(shown: &str, found: &str) -> Result<(), String> {
    let mut rest = found;
    for line in shown.lines() {
        let Some(at) = rest.find(line) else { return Err(format!("no {line:?} after that")) };
        rest = &rest[at + line.len()..];
    }
    Ok(())
}

/// Packages of the examples, as their author signs and ships them.
fn packages(service: &Service) {
    let signer = Signer::trusted(service, &["appointments", "appointment-scheduler"]);
    for (name, version) in
        [("appointments", "0.1.0"), ("appointments", "0.1.1"), ("appointment-scheduler", "0.1.0")]
    {
        let directory = plugin::example(service.directory(), name);
        let manifest = directory.join("plugin.toml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        let text = text.replacen("\"0.1.0\"", &format!("{version:?}"), 1);
        std::fs::write(&manifest, text).unwrap();
        let package = service.directory().join(format!("{name}-{version}.plugin"));
        bulkhead(["pack"]).arg(directory).arg("-o").arg(&package).run().expect(0);
        signer.sign(&package);
    }
}

#[test]
fn every_example_of_the_guide_does_what_it_says() {
    if !lane::program(test_name!(), "curl") {
        return;
    }
    let service = Service::start();
    packages(&service);
    let mut asked = BTreeSet::new();
    for Example { line, command, kind, status, answer } in examples(GUIDE) {
        let answers = run(&service, &command);
        for Answer { method, target, status, media_type, body } in &answers {
            description::check(method, target, *status, media_type, body.as_bytes());
            asked.extend(description::operation(method, target));
        }
        let Answer { status: found, body, .. } =
            answers.last().unwrap_or_else(|| panic!("line {line}: nothing was asked"));
        assert_eq!(*found, status, "line {line}: {body}");
        let same = match kind.as_str() {
            "json" => {
                let shown: Value = serde_json::from_str(&answer)
                    .unwrap_or_else(|error| panic!("line {line}: what is shown: {error}"));
                alike(&shown, &serde_json::from_str(body).unwrap(), "")
            }
            _ => holds_lines(&answer, body),
        };
        same.unwrap_or_else(|fault| panic!("line {line}: {fault}\n{body}"));
    }
    let all: BTreeSet<String> = description::operations().collect();
    let missing: Vec<&String> = all.difference(&asked).collect();
    assert!(missing.is_empty(), "docs/api.md has no example of {missing:?}");
}

#[test]
fn every_code_of_the_guide_is_one_of_the_api() {
    let codes = &description::document()["components"]["schemas"]["Code"]["enum"];
    let known: BTreeSet<&str> =
        codes.as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
    let table = GUIDE.lines().filter(|line| line.starts_with("| `") && line.contains("` | "));
    let named: BTreeSet<&str> = table
        .flat_map(|line| line.split('|').nth(1).unwrap_or_default().split('`'))
        .filter(|word| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
        })
        .collect();
    assert!(named.len() > 10, "the table of codes has moved: {named:?}");
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "no such code: {unknown:?}");
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json").is_file());
}

#[test]
fn an_example_that_is_wrong_is_found() {
    let shown = serde_json::json!({ "state": "enabled", "list": [{ "a": 1 }, "…"], "any": "…" });
    let good =
        serde_json::json!({ "state": "enabled", "list": [{ "a": 7, "b": 0 }], "any": [], "c": 0 });
    assert_eq!(alike(&shown, &good, ""), Ok(()));
    for (key, value) in [
        ("state", serde_json::json!("disabled")),
        ("list", serde_json::json!([])),
        ("list", serde_json::json!([{ "a": "1" }])),
        ("list", serde_json::json!([{ "b": 1 }])),
        ("any", Value::Null),
    ] {
        let mut bad = good.clone();
        bad[key] = value.clone();
        let fine = key == "any";
        assert_eq!(alike(&shown, &bad, "").is_ok(), fine, "{key}: {value}");
    }
    assert!(holds_lines("a\nb", "xa\nyb\n").is_ok());
    assert!(holds_lines("b\na", "xa\nyb\n").is_err());
    assert_eq!(examples("```sh\ncurl x\n```\n```json 201\n{}\n```\n")[0].status, 201);
}
