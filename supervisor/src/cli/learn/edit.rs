//! A manifest with other lines in `[sandbox]` and `[network]`; all else in it stays as it was written.

use std::fmt::Display;

use bulkhead_sandbox::seccomp::Profile;
use toml_edit::{Array, DocumentMut, Item, RawString, Table, TableLike, Value, value};

use super::proposal::{Asked, Reached};
use crate::cli::problem::Problem;
use crate::failure::{Code, Failure};

/// `text` with what is asked for.
///
/// # Errors
/// [`Code::ManifestInvalid`]: it is no TOML.
pub(super) fn edited(text: &str, asked: &Asked) -> Result<String, Problem> {
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        Problem::from(Failure::new(Code::ManifestInvalid, error.to_string()))
    })?;
    section(&mut document, "sandbox", |table| {
        let unsaid = asked.profile == Profile::default();
        if !unsaid || table.contains_key("profile") {
            set(table, "profile", asked.profile.name().into());
        }
        list(table, "allow_syscalls", &asked.allow_syscalls);
        if asked.proc {
            set(table, "proc", true.into());
        } else {
            table.remove("proc");
        }
        list(table, "read", &asked.read);
        list(table, "write", &asked.write);
    });
    let reached = Reached::of(&asked.network);
    section(&mut document, "network", |table| {
        list(table, "connect", reached.connect);
        list(table, "bind", reached.bind);
        list(table, "hosts", reached.hosts);
    });
    Ok(document.to_string())
}

/// Changes a section, which comes into being with its first line and goes with its last.
fn section(document: &mut DocumentMut, name: &str, change: impl FnOnce(&mut dyn TableLike)) {
    let mut absent = Table::new();
    if document.get(name).is_none() && !document.is_empty() {
        absent.decor_mut().set_prefix("\n");
    }
    let item = document.entry(name).or_insert(Item::Table(absent));
    let Some(table) = item.as_table_like_mut() else { return };
    change(table);
    if table.is_empty() {
        document.remove(name);
    }
}

/// Replaces the value, and keeps what is written around it.
fn set(table: &mut dyn TableLike, key: &str, new: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) if old.to_string().trim() == new.to_string().trim() => {}
        Some(old) => {
            let decor = old.decor().clone();
            *old = new;
            *old.decor_mut() = decor;
        }
        None => drop(table.insert(key, value(new))),
    }
}

/// A list of these: what is in it already stays where it is, with its comments.
fn list<T>(table: &mut dyn TableLike, key: &str, wanted: &[T])
where
    T: Display + Clone,
    T: Listed,
{
    if wanted.is_empty() {
        table.remove(key);
        return;
    }
    let values: Vec<Value> = wanted.iter().map(Listed::value).collect();
    let plain = |value: &Value| value.clone().decorated("", "").to_string();
    let Some(array) = table.get_mut(key).and_then(Item::as_array_mut) else {
        table.insert(key, value(Array::from_iter(values)));
        return;
    };
    let same = |one: &Value, other: &Value| match (one.as_str(), other.as_str()) {
        (Some(one), Some(other)) => one == other,
        _ => plain(one) == plain(other),
    };
    retain(array, |old| values.iter().any(|new| same(old, new)));
    for new in values {
        if !array.iter().any(|old| same(old, &new)) {
            push(array, new);
        }
    }
}

/// Leaves out the others. A comment behind a value goes with it: it is written before the next one.
fn retain(array: &mut Array, is_kept: impl Fn(&Value) -> bool) {
    let old: Vec<Value> = array.iter().cloned().collect();
    array.clear();
    let (mut behind, mut follows_kept) = (String::new(), true);
    for mut value in old {
        let (tail, own) = split(value.decor().prefix());
        if follows_kept {
            behind = tail;
        }
        follows_kept = is_kept(&value);
        if follows_kept {
            value.decor_mut().set_prefix(std::mem::take(&mut behind) + &own);
            array.push_formatted(value);
        }
    }
    let (tail, own) = split(Some(array.trailing()));
    array.set_trailing(if follows_kept { tail } else { behind } + &own);
}

/// Adds one, laid out as the one before, and behind the comment of that.
fn push(array: &mut Array, value: Value) {
    let (_, own) = split(array.iter().last().and_then(|last| last.decor().prefix()));
    let Some(line) = own.rfind('\n').map(|at| own[at..].to_owned()) else {
        array.push(value);
        return;
    };
    let (tail, end) = split(Some(array.trailing()));
    array.set_trailing(end);
    array.push_formatted(value.decorated(tail + &line, ""));
}

/// What is written before a value: what still stands in the line of the one before, and the rest.
fn split(before: Option<&RawString>) -> (String, String) {
    let text = before.and_then(RawString::as_str).unwrap_or_default();
    match text.find('\n') {
        Some(at) => (text[..at].to_owned(), text[at..].to_owned()),
        None => (String::new(), text.to_owned()),
    }
}

/// What a list of a manifest has.
trait Listed {
    fn value(&self) -> Value;
}

impl Listed for u16 {
    fn value(&self) -> Value {
        i64::from(*self).into()
    }
}

impl Listed for String {
    fn value(&self) -> Value {
        self.as_str().into()
    }
}

impl Listed for crate::manifest::HostPath {
    fn value(&self) -> Value {
        self.to_string().into()
    }
}

impl Listed for crate::manifest::HostPort {
    fn value(&self) -> Value {
        self.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Network;

    #[test]
    fn comments_and_order_stay() {
        let text = "# A plugin.\nid = 'a' # its id\nversion = '1.0.0'\n\n[sandbox] # narrow\n\
                    read = [\n    '/srv/a', # the first\n    '/srv/b', # the second\n    '/srv/d', # the last\n]\nproc = true\n\n\
                    # More.\n[limits]\nmemory = '1M'\n";
        let paths = |paths: &[&str]| paths.iter().map(|path| path.parse().unwrap()).collect();
        let asked = Asked {
            profile: Profile::Compute,
            allow_syscalls: vec!["sync".to_owned()],
            read: paths(&["/srv/a", "/srv/d", "/srv/c"]),
            network: Network::Ports { connect: vec![5432], bind: vec![] },
            ..Asked::nothing()
        };
        let changed = edited(text, &asked).unwrap();
        for kept in [
            "# A plugin.\nid = 'a' # its id\n",
            "[sandbox] # narrow\n",
            "'/srv/a', # the first\n    '/srv/d', # the last\n    \"/srv/c\",\n]",
            "# More.\n[limits]\nmemory = '1M'\n",
        ] {
            assert!(changed.contains(kept), "{kept:?} is not in\n{changed}");
        }
        for new in
            ["\"/srv/c\"", "profile = \"compute\"\n", "[\"sync\"]", "[network]\nconnect = [5432]\n"]
        {
            assert!(changed.contains(new), "{new:?} is not in\n{changed}");
        }
        assert!(
            !changed.contains("/srv/b")
                && !changed.contains("the second")
                && !changed.contains("proc"),
            "{changed}"
        );
        assert_eq!(edited(&changed, &asked).unwrap(), changed, "a second time it stays");
    }

    #[test]
    fn what_is_not_asked_for_has_no_section() {
        let text = "id = 'a'\nversion = '1.0.0'\n";
        assert_eq!(edited(text, &Asked::nothing()).unwrap(), text);
        let more = format!("{text}\n[network]\nconnect = [1]\n");
        assert!(!edited(&more, &Asked::nothing()).unwrap().contains("network"));
        let inline = format!("{text}sandbox = {{ proc = true, tmp = '1M' }}\n");
        let changed = edited(&inline, &Asked::nothing()).unwrap();
        assert!(changed.contains("tmp = '1M'") && !changed.contains("proc"), "{changed}");
    }
}
