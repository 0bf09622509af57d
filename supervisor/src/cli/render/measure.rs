//! Sizes and times as a person reads them.

/// `12.3 MiB`, `64 MiB`, `512 B`.
pub(in crate::cli) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    // What would be shown as 1024.0 is one of the next.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let text = format!("{value:.1}");
    format!("{} {}", text.strip_suffix(".0").unwrap_or(&text), UNITS[unit])
}

/// As the manifest has sizes, in at most six characters: `12.3M`, `64M`, `512`.
pub(in crate::cli) fn short_bytes(count: u64) -> String {
    let text = bytes(count);
    let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
    format!("{number}{}", unit.trim_end_matches(['i', 'B']))
}

/// In at most six characters: `42s`, `3m12s`, `5h02m`, `9d04h`, `120d`.
pub(in crate::cli) fn short_span(millis: u64) -> String {
    let secs = millis / 1000;
    match secs {
        0..=59 => format!("{secs}s"),
        60..=3599 => format!("{}m{:02}s", secs / 60, secs % 60),
        3600..=86_399 => format!("{}h{:02}m", secs / 3600, secs % 3600 / 60),
        86_400..=8_639_999 => format!("{}d{:02}h", secs / 86_400, secs % 86_400 / 3600),
        _ => format!("{}d", secs / 86_400),
    }
}

/// `870 ms`, `1.4 s`, `3 min 12 s`, `5 h 2 min`, `9 d 4 h`.
pub(in crate::cli) fn span(millis: u64) -> String {
    let secs = millis / 1000;
    match secs {
        0 => format!("{millis} ms"),
        1..=59 => format!("{}.{} s", secs, millis % 1000 / 100),
        60..=3599 => format!("{} min {} s", secs / 60, secs % 60),
        3600..=86_399 => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
        _ => format!("{} d {} h", secs / 86_400, secs % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_to_what_is_read_at_a_glance() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (67_108_864, "64 MiB"),
            ((1 << 20) - 1, "1 MiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn in_a_column_they_are_short() {
        for (count, text) in
            [(0, "0"), (1023, "1023"), (12_900_000, "12.3M"), (67_108_864, "64M"), (1 << 40, "1T")]
        {
            assert_eq!(short_bytes(count), text);
        }
        for (millis, text) in [
            (999, "0s"),
            (59_999, "59s"),
            (192_000, "3m12s"),
            (18_120_000, "5h02m"),
            (792_000_000, "9d04h"),
            (9_000_000_000, "104d"),
        ] {
            assert_eq!(short_span(millis), text);
        }
    }

    #[test]
    fn times_have_two_units() {
        for (millis, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1449, "1.4 s"),
            (59_999, "59.9 s"),
            (192_000, "3 min 12 s"),
            (18_120_000, "5 h 2 min"),
            (792_000_000, "9 d 4 h"),
        ] {
            assert_eq!(span(millis), text);
        }
    }
}
