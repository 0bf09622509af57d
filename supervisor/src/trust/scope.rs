//! Which plugins a key may sign.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::PluginId;

/// `appointments`, `clinic-*` or `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Scope {
    One(PluginId),
    /// Every id that begins with it.
    Prefix(String),
    All,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no plugin id, none that ends in `*`, and not `*`")]
pub(crate) struct BadScope {
    value: String,
}

impl Scope {
    pub(crate) fn has(&self, id: &PluginId) -> bool {
        match self {
            Scope::One(one) => one == id,
            Scope::Prefix(prefix) => id.as_str().starts_with(prefix),
            Scope::All => true,
        }
    }
}

impl FromStr for Scope {
    type Err = BadScope;

    fn from_str(text: &str) -> Result<Self, BadScope> {
        let bad = || BadScope { value: text.to_owned() };
        match text.strip_suffix('*') {
            None => text.parse().map(Scope::One).map_err(|_| bad()),
            Some("") => Ok(Scope::All),
            // A prefix is whatever can stand before one more letter.
            Some(prefix) => match format!("{prefix}x").parse::<PluginId>() {
                Ok(_) => Ok(Scope::Prefix(prefix.to_owned())),
                Err(_) => Err(bad()),
            },
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::One(id) => write!(f, "{id}"),
            Scope::Prefix(prefix) => write!(f, "{prefix}*"),
            Scope::All => f.write_str("*"),
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = BadScope;

    fn try_from(text: String) -> Result<Self, BadScope> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> String {
        scope.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_has_what_it_says() {
        let has = |scope: &str, id: &str| {
            let scope: Scope = scope.parse().unwrap();
            assert_eq!(scope.to_string().parse(), Ok(scope.clone()));
            scope.has(&id.parse().unwrap())
        };
        assert!(has("a", "a") && !has("a", "ab") && !has("ab", "a"));
        assert!(has("a-*", "a-b") && !has("a-*", "a") && !has("a-*", "ab"));
        assert!(has("*", "a"));
        for bad in ["", "A", "a.*", "**", "a*b", "*a", "-*", "../*", "a b", "ä*"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad:?}");
        }
    }
}
