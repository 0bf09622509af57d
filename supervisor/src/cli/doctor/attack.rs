//! `bulkhead doctor --attack`: what an ill-meaning plugin tries, made on this machine, outside and inside
//! a compartment. All of it is aimed at what is made for it, and safe on a machine that is in use.

use std::io;
use std::process::ExitCode;

use bulkhead_sandbox::attack::{self, ATTACKS, Inside, Scene, Verdict};
use bulkhead_sandbox::cgroup::Tree;
use bulkhead_sandbox::seccomp::Profile;
use bulkhead_sandbox::{Policy, Strictness};
use serde::Serialize;
use serde_json::json;

use super::super::exec;
use super::super::problem::Problem;
use super::super::render::{Screen, Tone, table};
use super::super::{Ended, finish};
use crate::failure::{Code, Failure};

/// The hidden verb that makes one attack, in a process of its own.
const VERB: [&str; 1] = ["attack"];

/// One attack, as it went.
#[derive(Serialize)]
struct Tried {
    attack: &'static str,
    aim: &'static str,
    outside: String,
    inside: String,
    #[serde(skip)]
    verdict: Verdict,
    /// `stopped`, `through`, `no-control`.
    #[serde(rename = "verdict")]
    word: &'static str,
}

/// 0 if attacks were stopped and nothing came through; else 1, as where none has a control or none could be made.
pub(super) fn run(screen: &mut Screen) -> ExitCode {
    let shown = tried().map_err(Ended::from).and_then(|all| {
        show(screen, &all)?;
        Ok(holds(all.iter().map(|one| one.verdict)))
    });
    match shown {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(ended) => finish(Err(ended), screen.json()),
    }
}

/// What nobody can do on a machine says nothing of a compartment, so something must have been stopped.
fn holds(mut verdicts: impl Iterator<Item = Verdict> + Clone) -> bool {
    verdicts.clone().any(|it| it == Verdict::Stopped) && verdicts.all(|it| it != Verdict::Through)
}

fn tried() -> Result<Vec<Tried>, Problem> {
    let scene = Scene::new().map_err(|error| failed(&error))?;
    let identity = exec::identity(None)?;
    let mut policy = Policy {
        profile: Profile::Plugin,
        strictness: Strictness::BestEffort,
        ..Policy::default()
    };
    policy.filesystem.mounts.push(scene.give(identity).map_err(|error| failed(&error))?);
    let tree = Tree::discover().ok();
    let how = Inside { policy: &policy, identity, tree: tree.as_ref(), arguments: &VERB };
    let mut all = Vec::new();
    for attack in ATTACKS {
        let Some(argument) = scene.argument(attack.on) else { continue };
        let outside = attack::outside(attack, &argument, &VERB).map_err(|error| failed(&error))?;
        let inside = attack::inside(attack, &argument, &how).map_err(Failure::from)?;
        let verdict = attack::judge(attack, outside, inside);
        all.push(Tried {
            attack: attack.name,
            aim: attack.aim,
            outside: outside.to_string(),
            inside: inside.to_string(),
            verdict,
            word: match verdict {
                Verdict::Stopped => "stopped",
                Verdict::Through => "through",
                Verdict::NoControl => "no-control",
            },
        });
    }
    Ok(all)
}

fn failed(error: &io::Error) -> Problem {
    let message = format!("the attacks cannot be made here: {error}");
    Failure::new(Code::SandboxUnavailable, message).into()
}

fn show(screen: &mut Screen, all: &[Tried]) -> Result<(), Ended> {
    let count = |verdict| all.iter().filter(|one| one.verdict == verdict).count();
    let (stopped, through, unproven) =
        (count(Verdict::Stopped), count(Verdict::Through), count(Verdict::NoControl));
    if screen.json() {
        let document = json!({
            "attacks": all, "stopped": stopped, "through": through, "noControl": unproven,
        });
        return Ok(screen.document(&document)?);
    }
    let rows: Vec<_> = all
        .iter()
        .map(|one| {
            let (word, tone) = match one.verdict {
                Verdict::Stopped => ("stopped", Tone::Good),
                Verdict::Through => ("THROUGH", Tone::Bad),
                Verdict::NoControl => ("no control", Tone::Faint),
            };
            let plain = |text: &str| (text.to_owned(), Tone::Plain);
            vec![
                (word.to_owned(), tone),
                plain(one.attack),
                plain(one.aim),
                plain(&one.outside),
                plain(&one.inside),
            ]
        })
        .collect();
    table(screen, &["VERDICT", "ATTACK", "TO", "OUTSIDE", "INSIDE"], &rows)?;
    screen.line("")?;
    let tone = if holds(all.iter().map(|one| one.verdict)) { Tone::Good } else { Tone::Bad };
    let verdict = screen.paint(tone, &format!("{stopped} stopped, {through} came through"));
    screen.line(&format!(
        "{verdict}; what was stopped succeeds outside a compartment (EFAULT, EBADF, EINVAL, ENODEV: the kernel took \
         the call up, and its arguments are wrong on purpose)"
    ))?;
    if unproven > 0 {
        screen.line(&format!(
            "{unproven} proved nothing: without a control, as nobody can do that on this machine, or not this user"
        ))?;
    }
    if stopped == 0 {
        screen.line("nothing is known of a compartment here: try it as root")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_was_stopped_nothing_is_said_to_hold() {
        use Verdict::{NoControl, Stopped, Through};
        let holds = |verdicts: &[Verdict]| holds(verdicts.iter().copied());
        assert!(holds(&[Stopped]) && holds(&[Stopped, NoControl]));
        assert!(!holds(&[Stopped, Through]));
        assert!(!holds(&[NoControl]) && !holds(&[]));
    }
}
