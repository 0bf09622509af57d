//! A strict reader of Prometheus' text format 0.0.4, written against its specification and not
//! against what the service writes:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-format-details>.

use std::collections::{BTreeMap, BTreeSet};

/// A scrape that keeps all the rules.
#[derive(Debug, Default)]
pub struct Scrape {
    families: BTreeMap<String, Family>,
}

#[derive(Debug, Default)]
struct Family {
    kind: String,
    series: Vec<Series>,
}

/// One line with a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Scrape {
    /// Reads a scrape; else the first rule that it breaks.
    ///
    /// # Errors
    /// The line, and what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_suffix('\n').ok_or("the last line has no end")?;
        let (mut scrape, mut current, mut helped) = (Self::default(), String::new(), String::new());
        let mut seen = BTreeSet::new();
        for line in text.split('\n') {
            let wrong = |why: &str| Err(format!("{why}: {line:?}"));
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or(format!("no help: {line:?}"))?;
                if !is_name(name, true) || help.trim().is_empty() {
                    return wrong("not a name and its help");
                }
                name.clone_into(&mut helped);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or(format!("no type: {line:?}"))?;
                if name != helped {
                    return wrong("a TYPE without its HELP before it");
                }
                if !matches!(kind, "counter" | "gauge" | "histogram") {
                    return wrong("an unknown type");
                }
                if (kind == "counter") != name.ends_with("_total") {
                    return wrong("counters, and only they, end in _total");
                }
                let family = Family { kind: kind.to_owned(), series: Vec::new() };
                if scrape.families.insert(name.to_owned(), family).is_some() {
                    return wrong("a family in two places");
                }
                name.clone_into(&mut current);
            } else if line.starts_with('#') || line.is_empty() {
                return wrong("neither HELP, TYPE nor a value");
            } else {
                let series = series(line).map_err(|why| format!("{why}: {line:?}"))?;
                let family = scrape.families.get_mut(&current).ok_or("a value without a family")?;
                let suffix = series.name.strip_prefix(&current).unwrap_or("?");
                let belongs = match family.kind.as_str() {
                    "histogram" => matches!(suffix, "_bucket" | "_sum" | "_count"),
                    _ => suffix.is_empty(),
                };
                if !belongs {
                    return wrong("a value of another family");
                }
                if !seen.insert((series.name.clone(), series.labels.clone())) {
                    return wrong("a series twice");
                }
                if family.kind == "counter" && !(series.value >= 0.0 && series.value.is_finite()) {
                    return wrong("a counter that cannot be");
                }
                family.series.push(series);
            }
        }
        for (name, family) in &scrape.families {
            if family.series.is_empty() {
                return Err(format!("{name} has no value"));
            }
            if family.kind == "histogram" {
                check_histogram(name, &family.series)?;
            }
        }
        Ok(scrape)
    }

    /// The names of the families.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.families.keys().map(String::as_str)
    }

    /// All series of that name, which have these labels among theirs.
    pub fn all(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Series> {
        let series = self.families.values().flat_map(|family| &family.series);
        let has = |series: &Series| {
            labels.iter().all(|(key, value)| series.labels.get(*key).is_some_and(|it| it == value))
        };
        series.filter(|series| series.name == name && has(series)).collect()
    }

    /// The value of the one series of that name which has these labels among its own.
    ///
    /// # Panics
    /// Where there are several.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let all = self.all(name, labels);
        assert!(all.len() <= 1, "{name} {labels:?} is not one series: {all:?}");
        all.first().map(|series| series.value)
    }
}

fn series(line: &str) -> Result<Series, String> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or("a label without a value")?;
            let (value, after) = quoted(after)?;
            if !is_name(label, false) || labels.insert(label.to_owned(), value).is_some() {
                return Err(format!("the label {label:?}"));
            }
            if let Some(more) = after.strip_prefix(',') {
                rest = more;
            } else {
                rest = after.strip_prefix('}').ok_or("labels without an end")?;
                break;
            }
        }
    }
    let value = rest.strip_prefix(' ').ok_or("no blank before the value")?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        number if number.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) => {
            number.parse().map_err(|_| "not a number")?
        }
        _ => return Err("not a number".to_owned()),
    };
    if !is_name(name, true) {
        return Err("not a name".to_owned());
    }
    Ok(Series { name: name.to_owned(), labels, value })
}

/// The text up to the closing quote, and what is after it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let (mut value, mut characters) = (String::new(), text.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(match characters.next() {
                Some((_, 'n')) => '\n',
                Some((_, same @ ('\\' | '"'))) => same,
                _ => return Err("an unknown escape".to_owned()),
            }),
            other => value.push(other),
        }
    }
    Err("a value without an end".to_owned())
}

fn is_name(text: &str, metric: bool) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || (metric && b == b':');
    !text.starts_with(|c: char| c.is_ascii_digit()) && !text.is_empty() && text.bytes().all(good)
}

/// Bounds go up, counts never down, the last is all of them and the count.
fn check_histogram(name: &str, series: &[Series]) -> Result<(), String> {
    let mut groups: BTreeMap<BTreeMap<String, String>, Vec<&Series>> = BTreeMap::new();
    for one in series {
        let mut labels = one.labels.clone();
        let bucket = one.name.ends_with("_bucket");
        if labels.remove("le").is_some() != bucket {
            return Err(format!("{name}: only buckets have `le`: {one:?}"));
        }
        groups.entry(labels).or_default().push(one);
    }
    for (labels, group) in groups {
        let wrong = |why: &str| Err(format!("{name}{labels:?}: {why}"));
        let of = |suffix: &'static str| {
            group.iter().filter(move |one| one.name == format!("{name}{suffix}"))
        };
        let (mut bound, mut below) = (f64::NEG_INFINITY, 0.0);
        for bucket in of("_bucket") {
            let le = match bucket.labels["le"].as_str() {
                "+Inf" => f64::INFINITY,
                text => text.parse().map_err(|_| format!("{name}: le {text:?}"))?,
            };
            if le <= bound || bucket.value < below {
                return wrong("the buckets do not go up");
            }
            (bound, below) = (le, bucket.value);
        }
        let counts: Vec<f64> = of("_count").map(|one| one.value).collect();
        if bound != f64::INFINITY || counts != [below] || of("_sum").count() != 1 {
            return wrong("the last bucket is not the count");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total x\n# TYPE a_total counter\na_total{p=\"x\\\"\\\\\\n\"} 1\n\
        a_total 2.5\n# HELP h y z\n# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\n\
        h_bucket{le=\"+Inf\"} 2\nh_sum 1.5\nh_count 2\n";

    #[test]
    fn what_keeps_the_rules_is_read() {
        let scrape = Scrape::parse(GOOD).unwrap();
        assert_eq!(scrape.value("a_total", &[("p", "x\"\\\n")]), Some(1.0));
        assert_eq!(scrape.all("a_total", &[]).len(), 2);
        assert_eq!(scrape.value("h_count", &[]), Some(2.0));
        assert_eq!(scrape.value("b", &[]), None);
    }

    #[test]
    fn what_breaks_one_is_not() {
        for (good, bad) in [
            ("h_count 2\n", "h_count 2"),
            ("# HELP a_total x\n", ""),
            ("# TYPE a_total counter\n", ""),
            ("a_total counter", "a_total thing"),
            ("a_total counter", "a_total gauge"),
            ("h histogram", "h counter"),
            ("a_total 2.5", "a_total -2.5"),
            ("a_total 2.5", "a_total NaN"),
            ("a_total 2.5", "a_total  2.5"),
            ("a_total 2.5", "a_total 2,5"),
            ("a_total 2.5", "b_total 2.5"),
            ("a_total 2.5", "a_total{p=\"x\\\"\\\\\\n\"} 3"),
            ("a_total 2.5", "a_total{q=\"\\t\"} 3"),
            ("a_total 2.5", "a_total{q=\"1\",q=\"2\"} 3"),
            ("a_total 2.5", "a_total{1q=\"1\"} 3"),
            ("a_total 2.5", "# note"),
            ("h_bucket{le=\"0.5\"} 1", "h_bucket{le=\"0.5\"} 3"),
            ("le=\"+Inf\"", "le=\"7\""),
            ("h_count 2", "h_count 3"),
            ("h_sum 1.5\n", ""),
            ("h_sum 1.5", "h_sum{le=\"1\"} 1.5"),
        ] {
            assert!(GOOD.contains(good), "{good}");
            let text = GOOD.replacen(good, bad, 1);
            assert!(Scrape::parse(&text).is_err(), "{text}");
        }
    }
}
