//! Numbers as heights and lengths.

const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A row of a graph for each of `rows`, from the top, with as many characters as there are parts.
/// What is not known is blank, what is nothing is the lowest block.
pub(super) fn graph(parts: &[Option<f64>], most: f64, rows: usize) -> Vec<String> {
    let steps = rows * HEIGHTS.len();
    let height = |part: &Option<f64>| {
        part.map(|value| {
            let share = if most > 0.0 { value / most } else { 0.0 };
            ((share * steps as f64).round() as usize).clamp(1, steps)
        })
    };
    let heights: Vec<Option<usize>> = parts.iter().map(height).collect();
    let row = |below: usize| {
        let block = |height: &Option<usize>| match height.map(|it| it.saturating_sub(below)) {
            None | Some(0) => ' ',
            Some(above) => HEIGHTS[above.min(HEIGHTS.len()) - 1],
        };
        heights.iter().map(block).collect()
    };
    (0..rows).rev().map(|row| row * HEIGHTS.len()).map(row).collect()
}

/// The top of a graph: somewhat above the most that there was, and no less than `least`, so that
/// what hardly changes is drawn as that.
pub(super) fn scale(parts: &[Option<f64>], least: f64) -> f64 {
    parts.iter().flatten().fold(least, |most, value| most.max(value * 1.25))
}

/// The part of a bar of this width that is filled: at least one cell of anything.
pub(super) fn filled(share: f64, width: usize) -> usize {
    if share <= 0.0 {
        return 0;
    }
    ((share.min(1.0) * width as f64).round() as usize).clamp(1, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_grows_from_below() {
        let parts = [None, Some(0.0), Some(4.0), Some(8.0), Some(16.0), Some(100.0)];
        assert_eq!(graph(&parts, 16.0, 1), [" ▁▂▄██"]);
        assert_eq!(graph(&parts, 16.0, 2), ["    ██", " ▁▄███"]);
        assert_eq!(graph(&parts, 0.0, 1), [" ▁▁▁▁▁"]);
        assert_eq!(graph(&[], 1.0, 1), [""]);
    }

    #[test]
    fn what_hardly_changes_is_not_blown_up() {
        assert!((scale(&[Some(1.0), None], 5.0) - 5.0).abs() < f64::EPSILON);
        assert!((scale(&[Some(8.0), Some(80.0)], 5.0) - 100.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_bar_is_empty_only_of_nothing() {
        for (share, expected) in [(0.0, 0), (0.01, 1), (0.5, 4), (1.0, 8), (7.0, 8)] {
            assert_eq!(filled(share, 8), expected, "{share}");
        }
    }
}
