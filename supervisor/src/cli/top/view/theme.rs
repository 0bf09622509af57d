//! What is drawn how.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::super::page::Text;
use crate::cli::render::Tone;

#[derive(Clone, Copy, Debug)]
pub(in crate::cli::top) struct Theme {
    colour: bool,
}

impl Theme {
    pub(in crate::cli::top) fn new(colour: bool) -> Self {
        Self { colour }
    }

    /// Without colour, what is bad is bold and what is faint stays so.
    pub(super) fn style(self, tone: Tone) -> Style {
        let style = Style::new();
        let coloured = |colour: Color| if self.colour { style.fg(colour) } else { style };
        match tone {
            Tone::Plain => style,
            Tone::Bad if !self.colour => self.style(Tone::Strong),
            Tone::Strong => style.add_modifier(Modifier::BOLD),
            Tone::Faint => style.add_modifier(Modifier::DIM),
            Tone::Good => coloured(Color::Green),
            Tone::Doubtful => coloured(Color::Yellow),
            Tone::Bad => coloured(Color::Red),
        }
    }

    /// Of what has no meaning of its own.
    pub(super) fn graph(self) -> Style {
        if self.colour { Style::new().fg(Color::Cyan) } else { Style::new() }
    }

    /// A whole row that is chosen, instead of its own colours.
    pub(super) fn chosen() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn span(self, tone: Tone, text: impl Into<String>) -> Span<'static> {
        Span::styled(text.into(), self.style(tone))
    }

    pub(super) fn line(self, text: &Text) -> Line<'static> {
        text.iter().map(|(piece, tone)| self.span(*tone, piece.clone())).collect()
    }
}
