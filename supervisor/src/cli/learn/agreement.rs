//! The author's word on what a further run would give the plugin: what it tried to reach is no reason by itself
//! to let it.

use std::collections::BTreeSet;
use std::io;

use tokio::sync::oneshot;

use super::proposal::Asked;
use crate::cli::consent::{is_yes, prompt, somebody_is_there};
use crate::cli::problem::printable;
use crate::cli::render::{Screen, Tone};
use crate::cli::run::Interrupts;
use crate::cli::{Ended, learn};

/// What the plugin may be given.
pub(super) struct Agreement<'a> {
    /// What plugin.toml grants already.
    present: &'a Asked,
    /// Lines of a manifest that were agreed to besides.
    agreed: BTreeSet<String>,
    /// To all of them, before they are known.
    in_advance: bool,
    /// Whether nobody is to be asked.
    quiet: bool,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Yes,
    No,
    /// Nobody is there to be asked.
    Unasked,
}

impl<'a> Agreement<'a> {
    pub(super) fn new(present: &'a Asked, in_advance: bool, quiet: bool) -> Self {
        Self { present, agreed: BTreeSet::new(), in_advance, quiet }
    }

    /// Of what a run is to be given to reach, the lines that nobody has agreed to.
    pub(super) fn lacks(&self, next: &Asked) -> Vec<String> {
        let lines = next.reach_beyond(self.present).into_iter();
        lines.filter(|line| !self.agreed.contains(line)).collect()
    }

    /// Gets the word on these lines of `next`. `failed` says why the plugin has not started without them.
    ///
    /// # Errors
    /// Where the terminal cannot be used, or there was an interrupt instead of an answer.
    pub(super) async fn on(
        &mut self,
        lines: &[String],
        next: &Asked,
        failed: Option<&str>,
        interrupts: &mut Interrupts,
    ) -> Result<Word, Ended> {
        if !self.in_advance {
            if self.quiet || !somebody_is_there() {
                return Ok(Word::Unasked);
            }
            question(lines, next, failed)?;
            // A thread of its own, which may be left behind: a terminal can be read in no other way.
            let (sender, answer) = oneshot::channel();
            let read = move || drop(sender.send(is_yes(&mut io::stdin().lock())));
            std::thread::Builder::new().name("answer".to_owned()).spawn(read)?;
            let agreed = tokio::select! {
                agreed = answer => agreed.map_err(io::Error::other)??,
                () = interrupts.next() => return Err(learn::interrupted().into()),
            };
            if !agreed {
                return Ok(Word::No);
            }
        }
        self.agreed.extend(lines.iter().cloned());
        Ok(Word::Yes)
    }
}

fn question(lines: &[String], next: &Asked, failed: Option<&str>) -> io::Result<()> {
    let mut screen = Screen::stderr();
    if let Some(failed) = failed {
        screen.line(&printable(&format!("The plugin did not start: {failed}")))?;
    }
    screen
        .line("The next run would give the plugin more of this machine, which it can then use:")?;
    for line in lines {
        screen.line(&printable(&format!("  {line}")))?;
    }
    for place in next.delicate() {
        if lines.iter().any(|line| line.contains(&place.to_string())) {
            let text = printable(&format!("  {place} is where secrets are often kept"));
            let text = screen.paint(Tone::Bad, &text);
            screen.line(&text)?;
        }
    }
    prompt(&mut screen, "Give it all of this?")
}

#[cfg(test)]
mod tests {
    use bulkhead_sandbox::seccomp::Profile;

    use super::*;
    use crate::manifest::Network;

    fn asked(read: &[&str], connect: &[u16], calls: &[&str]) -> Asked {
        Asked {
            profile: Profile::Plugin,
            allow_syscalls: calls.iter().map(ToString::to_string).collect(),
            proc: !calls.is_empty(),
            read: read.iter().map(|place| place.parse().unwrap()).collect(),
            write: Vec::new(),
            network: Network::Ports { connect: connect.to_vec(), bind: Vec::new() },
        }
    }

    #[tokio::test]
    async fn what_the_manifest_grants_and_calls_need_no_word_and_all_else_does_once() {
        let present = asked(&["/srv/a"], &[1], &[]);
        let mut interrupts = Interrupts::new().unwrap();
        let mut agreement = Agreement::new(&present, true, false);
        assert_eq!(agreement.lacks(&asked(&["/srv/a"], &[1], &["setsid"])), [""; 0]);
        let next = asked(&["/srv/a", "/srv/b"], &[1, 2], &[]);
        let lines = agreement.lacks(&next);
        assert_eq!(lines, ["[sandbox] read = [\"/srv/b\"]", "[network] connect = [2]"]);
        let word = agreement.on(&lines, &next, None, &mut interrupts).await.unwrap();
        assert_eq!(word, Word::Yes);
        assert_eq!(agreement.lacks(&next), [""; 0]);
        let more = asked(&["/srv/a", "/srv/b", "/srv/c"], &[1, 2], &[]);
        assert_eq!(agreement.lacks(&more), ["[sandbox] read = [\"/srv/c\"]"]);
        let programs = Asked { profile: Profile::Program, ..present.clone() };
        assert_eq!(agreement.lacks(&programs), ["[sandbox] profile = \"program\""]);
        // Without a word in advance nobody is there, and nothing is agreed to.
        let mut agreement = Agreement::new(&present, false, true);
        let word = agreement.on(&lines, &next, None, &mut interrupts).await.unwrap();
        assert_eq!(word, Word::Unasked);
        assert_eq!(agreement.lacks(&next), lines);
    }
}
