//! The compartment layer by layer: as measured of a plugin, and as this machine can give it.

use std::io::{self, Write};

use bulkhead_sandbox::Enforcement;
use bulkhead_sandbox::probe::{Capability, Machine, State};

use super::{Screen, Tone};
use crate::cli::problem::printable;

/// One line per layer of a measured compartment.
pub(in crate::cli) fn enforcement<W: Write>(
    screen: &mut Screen<W>,
    enforcement: &Enforcement,
) -> io::Result<()> {
    for measured in &enforcement.layers {
        let name = format!("{:<16}", measured.layer.name());
        if measured.enforced {
            let mark = screen.paint(Tone::Good, "ok");
            screen.line(&format!("  {mark}  {name}  {}", printable(&measured.measured)))?;
            continue;
        }
        let mark = screen.paint(Tone::Bad, "--");
        let Some(missing) = &measured.missing else {
            let (asked, found) = (printable(&measured.asked), printable(&measured.measured));
            screen.line(&format!("  {mark}  {name}  asked {asked}, found {found}"))?;
            continue;
        };
        screen.line(&format!("  {mark}  {name}  missing: {}", printable(&missing.why)))?;
        if let Some(instead) = &missing.stood_in_by {
            screen.line(&format!("{:24}instead: {}", "", printable(instead)))?;
        }
        screen.line(&format!("{:24}to do: {}", "", printable(&missing.remedy)))?;
    }
    Ok(())
}

/// A measured compartment in two lines: what is in force, what is not.
pub(in crate::cli) fn brief<W: Write>(
    screen: &mut Screen<W>,
    enforcement: &Enforcement,
) -> io::Result<()> {
    let names = |enforced: bool| {
        let layers = enforcement.layers.iter().filter(|layer| layer.enforced == enforced);
        layers.map(|measured| measured.layer.name()).collect::<Vec<_>>().join(", ")
    };
    let mark = screen.paint(Tone::Good, "in force");
    screen.line(&format!("  {mark}  {}", names(true)))?;
    if !enforcement.is_complete() {
        let mark = screen.paint(Tone::Doubtful, "missing ");
        screen.line(&format!("  {mark}  {}", names(false)))?;
    }
    Ok(())
}

/// What this machine can enforce.
pub(in crate::cli) fn machine<W: Write>(
    screen: &mut Screen<W>,
    machine: &Machine,
) -> io::Result<()> {
    let Machine { kernel, architecture, uid, layers, .. } = machine;
    screen.line(&format!("kernel {kernel} on {architecture}, as uid {uid}\n"))?;
    for layer in layers {
        capability(screen, layer)?;
    }
    screen.line("")?;
    let lacking: Vec<&str> = machine.lacking().map(|layer| layer.layer.name()).collect();
    if lacking.is_empty() {
        let verdict = screen.paint(Tone::Good, "strict runs here");
        screen.line(&format!("{verdict}: every layer that it requires can be enforced"))
    } else {
        let verdict = screen.paint(Tone::Bad, "strict does not run here");
        screen.line(&format!("{verdict}: it requires {}", lacking.join(", ")))?;
        screen.line("best-effort runs with the layers above, and says what is missing")
    }
}

fn capability<W: Write>(screen: &mut Screen<W>, found: &Capability) -> io::Result<()> {
    let (tone, mark) = match found.state {
        State::Enforced => (Tone::Good, "ok"),
        State::Partial => (Tone::Doubtful, "~~"),
        State::Missing => (Tone::Bad, "--"),
    };
    let mark = screen.paint(tone, mark);
    let name = format!("{:<16}", found.layer.name());
    screen.line(&format!("  {mark}  {name}  {}", printable(&found.detail)))?;
    if let Some(instead) = &found.stood_in_by {
        screen.line(&format!("{:24}instead: {}", "", printable(instead)))?;
    }
    match &found.remedy {
        Some(remedy) if found.state != State::Enforced => {
            screen.line(&format!("{:24}to do: {}", "", printable(remedy)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_sandbox::{Layer, Measured, Missing};

    use super::*;

    fn measured() -> Enforcement {
        let memory = Missing {
            layer: Layer::Memory,
            why: "the controller is bound to a v1 hierarchy".into(),
            remedy: "boot with cgroup v2".into(),
            stood_in_by: Some("RLIMIT_DATA".into()),
        };
        Enforcement {
            layers: vec![
                Measured {
                    layer: Layer::Seccomp,
                    asked: "profile plugin".into(),
                    measured: "filter, 163 instructions".into(),
                    enforced: true,
                    missing: None,
                },
                Measured {
                    layer: Layer::Memory,
                    asked: "64 MiB".into(),
                    measured: "none".into(),
                    enforced: false,
                    missing: Some(memory),
                },
            ],
        }
    }

    #[test]
    fn what_is_missing_is_shown_with_what_to_do() {
        let mut screen = Screen::of_test(true);
        enforcement(&mut screen, &measured()).unwrap();
        let text = screen.text();
        assert!(text.contains("ok  seccomp           filter, 163 instructions"), "{text}");
        assert!(text.contains("--  memory            missing: the controller is bound"), "{text}");
        assert!(
            text.contains("instead: RLIMIT_DATA") && text.contains("to do: boot with"),
            "{text}"
        );
    }

    #[test]
    fn in_short_it_is_two_lists() {
        let mut screen = Screen::of_test(true);
        brief(&mut screen, &measured()).unwrap();
        assert_eq!(screen.text(), "  in force  seccomp\n  missing   memory\n");
    }

    #[test]
    fn doctor_ends_with_a_verdict() {
        let capability = |layer, state| Capability {
            layer,
            state,
            detail: "found".into(),
            remedy: Some("do this".into()),
            stood_in_by: (state == State::Missing).then(|| "an rlimit".into()),
        };
        let mut screen = Screen::of_test(true);
        let layers = vec![
            capability(Layer::Seccomp, State::Enforced),
            capability(Layer::Memory, State::Missing),
        ];
        let found = Machine {
            kernel: "6.12".into(),
            architecture: "x86_64".into(),
            uid: 0,
            landlock_abi: 6,
            layers,
        };
        machine(&mut screen, &found).unwrap();
        let text = screen.text();
        assert!(text.contains("strict does not run here: it requires memory"), "{text}");
        assert_eq!(text.matches("to do: do this").count(), 1, "{text}");
        assert_eq!(text.matches("instead: an rlimit").count(), 1, "{text}");
    }
}
