//! Completion scripts and the manual page, from the grammar itself.

use std::io;

use clap::{Command, CommandFactory as _};

use super::Ended;
use super::args::Arguments;
use super::render::Screen;

pub(super) fn completion(screen: &mut Screen, shell: clap_complete::Shell) -> Result<(), Ended> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "bulkhead", &mut script);
    screen.raw(&script)?;
    Ok(screen.flush()?)
}

/// One page (man-pages(7)) with a section for each verb.
pub(super) fn page(screen: &mut Screen) -> Result<(), Ended> {
    screen.raw(&roff()?)?;
    Ok(screen.flush()?)
}

/// Where `BULKHEAD_PAUSE_AT` can hold an operation, one a line.
#[cfg(debug_assertions)]
pub(super) fn pause_points(screen: &mut Screen) -> Result<(), Ended> {
    for point in crate::supervise::pause_points() {
        screen.line(&point)?;
    }
    Ok(screen.flush()?)
}

fn roff() -> io::Result<Vec<u8>> {
    let mut program = Arguments::command();
    program.build();
    let mut text = Vec::new();
    clap_mangen::Man::new(program.clone()).render(&mut text)?;
    for verb in program.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        section(verb, &mut text)?;
    }
    Ok(text)
}

fn section(verb: &Command, text: &mut Vec<u8>) -> io::Result<()> {
    use io::Write as _;
    writeln!(text, ".SH \"{}\"", verb.get_name().to_uppercase())?;
    let man = clap_mangen::Man::new(verb.clone());
    man.render_synopsis_section(text)?;
    man.render_description_section(text)?;
    man.render_options_section(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_verb() {
        let text = String::from_utf8(roff().unwrap()).unwrap();
        for verb in ["EXEC", "RUN", "DISABLE", "DOCTOR", "TOP"] {
            assert!(text.contains(&format!(".SH \"{verb}\"")), "{verb} is missing");
        }
        assert!(text.contains("memory") && !text.contains("SUPERVISE"));
    }
}
