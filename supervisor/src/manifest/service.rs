//! What a plugin offers to others: services, their methods, and the permission that each needs.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::permission::{Permission, is_word};

/// The name of a service, the first half of `service/method`: letters, digits, `-`, `_`, `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ServiceName(String);

/// The name of a method, the second half of `service/method`: the same characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct MethodName(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a name of a service or method: use letters, digits, '-', '_' and '.', beginning with a letter, at most 64"
)]
pub(crate) struct BadName(String);

macro_rules! name {
    ($name:ident) => {
        impl $name {
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                if is_word(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(BadName(text.to_owned()))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        /// So that a map can be asked with a `&str`, which need not be a valid name.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(ServiceName);
name!(MethodName);

/// `[provides.<service>]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    pub(crate) version: semver::Version,
    #[serde(default)]
    pub(crate) methods: BTreeMap<MethodName, Method>,
}

/// One line of `[provides.<service>.methods]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Method {
    /// What a plugin that calls it must be granted; none: any plugin may call it.
    pub(crate) permission: Option<Permission>,
    #[serde(default)]
    pub(crate) description: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_methods_answers_any_text() {
        let service: Service = toml::from_str(
            "version = '1.0.0'\n[methods]\nlist = { permission = 'read:appointments' }\nping = {}",
        )
        .unwrap();
        let list = service.methods.get("list").unwrap();
        assert_eq!(list.permission.as_ref().unwrap().as_str(), "read:appointments");
        assert_eq!(service.methods.get("ping").unwrap().permission, None);
        assert_eq!(service.methods.get("../list"), None);
        assert!("a/b".parse::<MethodName>().is_err());
    }
}
