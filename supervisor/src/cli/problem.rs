//! What went wrong, on standard error: for a person, or as JSON for a program.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::{Code, Failure};

/// A failure of this program or of the service. The service may be newer than this program, so the
/// code is text here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Problem {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) details: Map<String, Value>,
    #[serde(skip)]
    pub(crate) exit_code: u8,
}

impl Problem {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Failure::new(code, message).into()
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, message)
    }

    /// A mistake in the arguments, as clap tells it to a person: what is wrong, tips, and the usage.
    pub(crate) fn misread(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let (told, rest) = text.split_once("\n\nUsage: ").unwrap_or((&text, ""));
        let told = told.trim().trim_start_matches("error: ");
        let told = told.split("\n\nFor more information").next().unwrap_or_default();
        let words: Vec<&str> = told.split_whitespace().collect();
        let problem = Self {
            code: "USAGE".to_owned(),
            message: format!("{}; `--help` tells what there is", words.join(" ")),
            details: Map::new(),
            exit_code: 2,
        };
        match rest.lines().next() {
            Some(usage) => problem.with("usage", usage.trim()),
            None => problem,
        }
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    pub(crate) fn exiting(mut self, exit_code: u8) -> Self {
        self.exit_code = exit_code;
        self
    }

    /// Tells it, and gives the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        // Nobody is left to be told that standard error is closed.
        let _ = self.write(&mut io::stderr().lock(), json);
        ExitCode::from(self.exit_code)
    }

    fn write(&self, to: &mut impl Write, json: bool) -> io::Result<()> {
        if json {
            let text = serde_json::to_string(self).map_err(io::Error::other)?;
            return writeln!(to, "{text}");
        }
        writeln!(to, "error: {}: {}", self.code, printable(&self.message))?;
        for line in beside(&self.message, &self.details) {
            writeln!(to, "  {line}")?;
        }
        Ok(())
    }
}

/// The lines of the details that the message does not say already, for a person.
pub(in crate::cli) fn beside(message: &str, details: &Map<String, Value>) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, value) in details {
        let text = match value {
            Value::Null => continue,
            // The explanation says it in words.
            Value::Object(_) if key == "exit" && details.contains_key("explanation") => continue,
            Value::Array(all) if all.is_empty() => continue,
            Value::Array(all) if key == "lastLogLines" => {
                lines.push("wrote last:".to_owned());
                let written = all.iter().filter_map(Value::as_str);
                lines.extend(written.map(|line| format!("  {}", printable(line))));
                continue;
            }
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if !message.contains(&text) {
            lines.push(format!("{}: {}", printable(key), printable(&text)));
        }
    }
    lines
}

/// Text of strangers (plugins, files) without what could repaint the terminal. Line breaks stay.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(
            |c| {
                if crate::manifest::is_unsafe(c) && c != '\n' && c != '\t' { '\u{fffd}' } else { c }
            },
        )
        .collect()
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let details = match failure.details {
            Value::Object(details) => details,
            _ => Map::new(),
        };
        Self {
            code: failure.code.to_string(),
            message: failure.message,
            details,
            exit_code: failure.code.exit_code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(problem: &Problem, json: bool) -> String {
        let mut bytes = Vec::new();
        problem.write(&mut bytes, json).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn details_that_the_sentence_lacks_follow_it() {
        let problem = Problem::new(Code::ResourceExhausted, "no pids are left of 32")
            .with("resource", "pids")
            .with("limit", 32)
            .with("used", 31);
        assert_eq!(
            text(&problem, false),
            "error: RESOURCE_EXHAUSTED: no pids are left of 32\n  used: 31\n"
        );
        let json: Value = serde_json::from_str(&text(&problem, true)).unwrap();
        assert_eq!(json["details"]["limit"], 32);
        assert_eq!(json["code"], "RESOURCE_EXHAUSTED");
        assert_eq!(problem.exit_code, 1);
    }

    #[test]
    fn a_death_is_told_in_words() {
        let exit = serde_json::json!({ "cause": { "signal": 6 }, "usage": { "pids": null } });
        let died = |lines: &[&str]| {
            Problem::new(Code::PluginDied, "the plugin died: killed by SIGABRT")
                .with("exit", exit.clone())
                .with("explanation", "killed by SIGABRT")
                .with("lastLogLines", lines)
                .with("remedy", "[limits] pids = 2")
        };
        let first = "error: PLUGIN_DIED: the plugin died: killed by SIGABRT\n";
        assert_eq!(
            text(&died(&["one", "the end"]), false),
            format!("{first}  wrote last:\n    one\n    the end\n  remedy: [limits] pids = 2\n")
        );
        assert_eq!(text(&died(&[]), false), format!("{first}  remedy: [limits] pids = 2\n"));
        assert!(text(&died(&[]), true).contains("\"usage\""), "programs are told all of it");
    }

    #[test]
    fn a_mistake_in_the_arguments_is_one_sentence_and_the_usage() {
        use clap::Parser as _;
        for (line, parts) in [
            ("bulkhead inspect --json", ["required", "<ID>"]),
            ("bulkhead inspekt a --json", ["'inspekt'", "inspect"]),
            ("bulkhead ls --jason", ["--jason", "--json"]),
            ("bulkhead disable a --timeout x --json", ["--timeout", "x"]),
        ] {
            let error = crate::cli::args::Arguments::try_parse_from(line.split(' ')).unwrap_err();
            let problem = Problem::misread(&error);
            assert_eq!((problem.code.as_str(), problem.exit_code), ("USAGE", 2), "{line}");
            for part in parts {
                assert!(problem.message.contains(part), "no {part:?} in {:?}", problem.message);
            }
            let message = &problem.message;
            assert!(!message.contains('\n') && !message.starts_with("error"), "{message:?}");
            assert!(!message.contains("Usage") && !message.contains("For more"), "{message:?}");
        }
    }

    #[test]
    fn a_strangers_text_cannot_repaint_the_terminal() {
        let problem = Problem::new(Code::CallFailed, "a\u{1b}[2Jb").with("x", "\u{7}");
        let shown = text(&problem, false);
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{7}'), "{shown:?}");
    }
}
