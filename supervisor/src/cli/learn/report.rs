//! What is said: as it goes on, and at the end.

use std::fmt;
use std::io;
use std::path::Path;

use bulkhead_sandbox::learning::Subject;
use serde_json::{Value, json};

use super::RUNS;
use super::life::Lived;
use super::observed::Observed;
use super::proposal::Proposal;
use crate::cli::problem::printable;
use crate::cli::render::{Screen, Tone};
use crate::id::PluginId;
use crate::manifest::FILE_NAME;

/// All that there is to tell.
pub(super) struct Learned {
    pub(super) id: PluginId,
    pub(super) runs: usize,
    pub(super) observed: Observed,
    pub(super) proposal: Proposal,
    /// The last run that learned.
    pub(super) lived: Lived,
    /// Why there was no enforced run, if there was none.
    pub(super) incomplete: Option<Incomplete>,
    /// In what the enforced run did not do as well.
    pub(super) faults: Vec<String>,
    /// Lines of the manifest that no run has used.
    pub(super) unused: Vec<String>,
    /// Lines that it lacks.
    pub(super) lacking: Vec<String>,
    /// The manifest as it is.
    pub(super) before: String,
    /// And as it would be.
    pub(super) text: String,
    pub(super) has_command: bool,
}

/// Why more may be needed than is proposed.
#[derive(Clone, Debug)]
pub(super) enum Incomplete {
    /// A further run would have had these lines besides, to which nobody agreed.
    NotAgreed { lines: Vec<String>, asked: bool },
    /// The last run that there may be found these still.
    Unsettled(Vec<String>),
    /// It did not start with what it has, nor asked for more: why.
    NotStarted(String),
}

impl Incomplete {
    pub(super) fn lines(&self) -> &[String] {
        match self {
            Self::NotAgreed { lines, .. } | Self::Unsettled(lines) => lines,
            Self::NotStarted(_) => &[],
        }
    }
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines().join(", ");
        match self {
            Self::NotAgreed { asked: true, .. } => {
                write!(f, "it was not agreed to give the plugin {lines}")
            }
            Self::NotAgreed { asked: false, .. } => write!(
                f,
                "the plugin tries to reach more than {FILE_NAME} grants: {lines}; nobody is there to agree \
                 to that: give `--yes`, or add to {FILE_NAME} by hand what it is to have"
            ),
            Self::NotStarted(why) => {
                write!(f, "the plugin does not start, so what it needs is not known: {why}")
            }
            Self::Unsettled(_) => write!(
                f,
                "its last run of {RUNS} still found more: {lines}; have it try the same each time, or add these by hand and learn again"
            ),
        }
    }
}

pub(super) struct Report {
    screen: Screen,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        Self { screen: Screen::stdout(json) }
    }

    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.say(
            Tone::Faint,
            "the plugin's system calls are watched instead of refused; every other layer holds, and it has the files, ports and hosts of plugin.toml, and others only as agreed to",
        )
    }

    pub(super) fn ran(&mut self, run: usize, new: &[String]) -> io::Result<()> {
        let found = match new {
            [] => "nothing that it was not given".to_owned(),
            new => format!("it asks for {}", new.join(", ")),
        };
        self.say(Tone::Plain, &format!("run {run}: {found}"))
    }

    pub(super) fn replayed(&mut self, faults: &[String]) -> io::Result<()> {
        if faults.is_empty() {
            return self.say(Tone::Good, "enforced: it lives as well under what was learned alone");
        }
        for fault in faults {
            self.say(Tone::Bad, &format!("enforced: {fault}"))?;
        }
        Ok(())
    }

    pub(super) fn written(&mut self, file: &Path) -> io::Result<()> {
        self.say(Tone::Good, &format!("{} is changed", file.display()))
    }

    pub(super) fn tell(&mut self, learned: &Learned) -> io::Result<()> {
        if self.screen.json() {
            self.screen.document(&learned.json())?;
            return self.screen.flush();
        }
        if matches!(learned.incomplete, Some(Incomplete::NotStarted(_))) {
            return Ok(());
        }
        for line in &learned.unused {
            self.say(Tone::Doubtful, &format!("granted and not used: {line}"))?;
        }
        for place in learned.proposal.asked.delicate() {
            self.say(Tone::Bad, &format!("look twice: {place} is where secrets are often kept"))?;
        }
        for note in &learned.proposal.notes {
            self.say(Tone::Doubtful, &format!("not granted: {note}"))?;
        }
        if !learned.lived.hardly.is_empty() && !learned.has_command {
            let hardly = learned.lived.hardly.join(", ");
            self.say(
                Tone::Doubtful,
                &format!(
                    "hardly learned: {hardly}: methods were called with {{}} only, and no event was posted; \
                     give a command after `--` that does it in earnest"
                ),
            )?;
        }
        if learned.incomplete.is_some() {
            self.say(
                Tone::Bad,
                "not run under, and maybe incomplete: what comes after a file that could not be opened was not seen",
            )?;
        } else if learned.text == learned.before {
            return self.say(Tone::Good, &format!("{FILE_NAME} asks for what is needed"));
        }
        for (sign, line) in differences(&learned.before, &learned.text) {
            let tone = match sign {
                '+' => Tone::Good,
                '-' => Tone::Bad,
                _ => Tone::Faint,
            };
            self.say(tone, &format!("{sign} {line}"))?;
        }
        Ok(())
    }

    fn say(&mut self, tone: Tone, text: &str) -> io::Result<()> {
        if self.screen.json() {
            return Ok(());
        }
        // A path may have a line's end in it.
        let text = self.screen.paint(tone, &printable(&text.replace('\n', "\\n")));
        self.screen.line(&text)?;
        self.screen.flush()
    }
}

impl Learned {
    fn json(&self) -> Value {
        let Observed { calls, subjects, impossible, refused, .. } = &self.observed;
        let paths = subjects.iter().filter_map(|subject| match subject {
            Subject::Path(path, doing) => {
                let doing = format!("{doing:?}").to_lowercase();
                Some(json!({ "path": path.display().to_string(), "doing": doing }))
            }
            _ => None,
        });
        let addresses = |bound: bool| {
            let subjects = subjects.iter();
            subjects
                .filter_map(move |subject| match subject {
                    Subject::Connect(address) if !bound => Some(address.to_string()),
                    Subject::Bind(address) if bound => Some(address.to_string()),
                    _ => None,
                })
                .collect::<Vec<_>>()
        };
        // Where it was not run, nothing is known of it.
        let enforced = self
            .incomplete
            .is_none()
            .then(|| json!({ "passed": self.faults.is_empty(), "faults": self.faults }));
        let refused = refused.iter().map(|(call, errno)| json!({ "call": call, "errno": errno }));
        json!({
            "id": self.id,
            "runs": self.runs,
            "observed": {
                "calls": calls.keys().collect::<Vec<_>>(),
                "paths": paths.collect::<Vec<_>>(),
                "connect": addresses(false),
                "bind": addresses(true),
                "hosts": self.observed.hosts,
                "refused": refused.collect::<Vec<_>>(),
                "impossible": impossible,
                "truncated": self.observed.truncated,
            },
            "proposal": self.proposal.asked.json(),
            "notes": self.proposal.notes,
            "delicate": self.proposal.asked.delicate(),
            "lacking": self.lacking,
            "unused": self.unused,
            "life": self.lived.json(),
            "hardlyLearned": self.lived.hardly,
            "incomplete": self.incomplete.as_ref().map(ToString::to_string),
            "enforced": enforced,
        })
    }
}

/// The lines of both, in order: what goes by `-`, what comes by `+`, and what is around it.
fn differences<'a>(before: &'a str, after: &'a str) -> Vec<(char, &'a str)> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    // The longest common part of what is left from each position on.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut all) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            all.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[i + 1][j] >= common[i][j + 1] {
            all.push(('-', old[i]));
            i += 1;
        } else {
            all.push(('+', new[j]));
            j += 1;
        }
    }
    let changed = |at: usize| {
        let near = at.saturating_sub(2)..(at + 3).min(all.len());
        all[near].iter().any(|(sign, _)| *sign != ' ')
    };
    (0..all.len()).filter(|at| changed(*at)).map(|at| all[at]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_and_what_is_around_it_is_shown() {
        let before = "a\nb\nc\nd\ne\nf\ng\n";
        let after = "a\nb\nc\nd\nE\nf\ng\nh\n";
        let shown: Vec<String> = differences(before, after)
            .into_iter()
            .map(|(sign, line)| format!("{sign}{line}"))
            .collect();
        assert_eq!(shown, [" c", " d", "-e", "+E", " f", " g", "+h"]);
        assert_eq!(differences(before, before), []);
    }
}
