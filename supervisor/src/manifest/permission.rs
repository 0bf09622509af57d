//! What a plugin may do to a resource: `read:appointments`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `action:resource`, each of `a-z 0-9 - _ .`, beginning with a letter, at most 64 characters.
/// Compared as a whole: no permission implies another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Permission(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a permission: write action:resource, for example read:appointments")]
pub(crate) struct BadPermission(String);

impl Permission {
    #[cfg(test)]
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Permission {
    type Err = BadPermission;

    fn from_str(text: &str) -> Result<Self, BadPermission> {
        match text.split_once(':') {
            Some((action, resource)) if is_word(action) && is_word(resource) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(BadPermission(text.to_owned())),
        }
    }
}

/// A word of the manifest's names: permissions, services, methods.
pub(super) fn is_word(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
}

impl TryFrom<String> for Permission {
    type Error = BadPermission;

    fn try_from(text: String) -> Result<Self, BadPermission> {
        text.parse()
    }
}

impl From<Permission> for String {
    fn from(permission: Permission) -> String {
        permission.0
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_an_action_on_a_resource() {
        for good in ["read:appointments", "write:patient.notes", "x:y"] {
            assert_eq!(good.parse::<Permission>().unwrap().as_str(), good);
        }
        for bad in ["", "read", "read:", ":x", "a:b:c", "read:a b", "read:*", "1:x", "read:ä"] {
            assert_eq!(bad.parse::<Permission>(), Err(BadPermission(bad.into())));
        }
    }
}
