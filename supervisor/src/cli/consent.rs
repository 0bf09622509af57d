//! The operator's word on what a plugin asks for: given by flags, or asked for on a terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write};

use serde_json::{Map, Value, json};

use super::args::Word;
use super::problem::{Problem, printable};
use super::render::{self, Screen, Tone};

/// What the service answers where a word is needed.
const REQUIRED: &str = "CONSENT_REQUIRED";

impl Word {
    /// The word as the API has it, in the options of a request.
    pub(super) fn options(&self) -> Map<String, Value> {
        let mut options = Map::new();
        if self.yes {
            options.insert("consent".to_owned(), json!("all"));
        }
        if !self.grant.is_empty() {
            options.insert("permissions".to_owned(), json!(self.grant));
        }
        if let Some(maximum) = self.max_exposure {
            options.insert("maxExposure".to_owned(), json!(maximum));
        }
        options
    }
}

/// What the service answered to a request that may take a word.
pub(super) struct Answered {
    pub(super) reply: Value,
    /// Whether somebody was asked, who has read what the review warns of then.
    asked: bool,
}

impl Answered {
    /// What the review found that nobody has read yet.
    pub(super) fn warnings<W: Write>(&self, screen: &mut Screen<W>) -> io::Result<()> {
        if self.asked { Ok(()) } else { warnings(screen, &self.reply["review"]) }
    }
}

/// Sends a request with its options and, where the service wants a word that was not given and
/// somebody is there to give it, asks for that and sends it again.
pub(super) async fn with_word<F>(
    mut options: Map<String, Value>,
    quiet: bool,
    send: impl Fn(Map<String, Value>) -> F,
) -> Result<Answered, Problem>
where
    F: Future<Output = Result<Value, Problem>>,
{
    let asked = match send(options.clone()).await {
        Err(problem) if problem.code == REQUIRED && !options.contains_key("consent") => problem,
        result => return Ok(Answered { reply: result?, asked: false }),
    };
    if quiet || !somebody_is_there() {
        return Err(asked);
    }
    // For exactly this content: another that takes its place meanwhile is asked for again.
    let digest = asked.details.get("digest").cloned().unwrap_or_default();
    let found = Value::Object(asked.details.clone());
    let agreed = question(&mut Screen::stderr(), &found, &mut io::stdin().lock());
    if !agreed.unwrap_or(false) {
        return Err(Problem { message: "it was not consented to".to_owned(), ..asked });
    }
    options.insert("consent".to_owned(), digest);
    Ok(Answered { reply: send(options).await?, asked: true })
}

/// Shows what is asked for and reads the answer.
fn question<W: Write>(
    screen: &mut Screen<W>,
    found: &Value,
    answers: &mut impl io::BufRead,
) -> io::Result<bool> {
    screen.line("This plugin asks for more than a plugin has by itself:")?;
    found.as_object().map_or(Ok(()), |asks| render::asks(screen, asks))?;
    if let Some(score) = found["exposure"]["score"].as_f64() {
        screen.line(&format!("exposure: {score:.1} of 10, expected on this machine"))?;
    }
    warnings(screen, found)?;
    yes(screen, "Grant it all of this?", answers)
}

/// Whether somebody is there to be asked.
pub(super) fn somebody_is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks, and reads the answer.
pub(super) fn yes<W: Write>(
    screen: &mut Screen<W>,
    question: &str,
    answers: &mut impl io::BufRead,
) -> io::Result<bool> {
    prompt(screen, question)?;
    is_yes(answers)
}

pub(super) fn prompt<W: Write>(screen: &mut Screen<W>, question: &str) -> io::Result<()> {
    screen.raw(format!("{question} [y/N] ").as_bytes())?;
    screen.flush()
}

/// Reads an answer. Whatever is not a yes is a no.
pub(super) fn is_yes(answers: &mut impl io::BufRead) -> io::Result<bool> {
    let mut answer = String::new();
    // A line, and not the rest of a file that somebody pipes in.
    answers.by_ref().take(64).read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// What the review of an installation found, line by line.
pub(super) fn warnings<W: Write>(screen: &mut Screen<W>, review: &Value) -> io::Result<()> {
    for warning in review["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let word = screen.paint(Tone::Doubtful, "warning");
        screen.line(&format!("{word}: {}", printable(warning)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details() -> Value {
        json!({
            "digest": "abc",
            "added": ["permission write:x", "connect to port 443"],
            "removed": ["read /srv/x"],
            "permissions": [{"name": "write:x", "opens": ["x/put: puts\u{1b}[2J an x"]}],
            "exposure": {"score": 1.2},
            "warnings": ["it depends on x\u{1b}, which is not installed"],
        })
    }

    #[test]
    fn only_a_yes_is_one() {
        for (answer, agreed) in [
            ("y\n", true),
            ("YES\n", true),
            ("\n", false),
            ("", false),
            ("n\n", false),
            ("yep\n", false),
        ] {
            let mut screen = Screen::of_test(true);
            let mut answers = answer.as_bytes();
            assert_eq!(
                question(&mut screen, &details(), &mut answers).unwrap(),
                agreed,
                "{answer:?}"
            );
            let text = screen.text();
            let (read, _) = text.split_once("[y/N]").unwrap();
            for part in [
                "write:x",
                "x/put: puts",
                "connect to port 443",
                "read /srv/x",
                "1.2 of 10",
                "it depends on x",
            ] {
                assert!(read.contains(part), "{part:?} before the question in\n{text}");
            }
            assert!(!text.contains('\u{1b}'), "{text:?}");
        }
    }

    #[test]
    fn what_was_read_before_the_question_is_not_told_again() {
        for (asked, told) in [(true, 0), (false, 1)] {
            let reply = json!({"review": {"warnings": ["it depends on x"]}});
            let mut screen = Screen::of_test(true);
            Answered { reply, asked }.warnings(&mut screen).unwrap();
            assert_eq!(screen.text().matches("it depends on x").count(), told, "asked: {asked}");
        }
    }

    #[test]
    fn flags_are_the_word() {
        let word = Word { yes: true, grant: vec!["read:x".parse().unwrap()], ..Word::default() };
        let options = json!({"consent": "all", "permissions": ["read:x"]});
        assert_eq!(Value::Object(word.options()), options);
        assert!(Word::default().options().is_empty());
    }
}
