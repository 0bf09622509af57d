//! Who asks: the user behind a connection, and the person that user acts for.

use std::fmt;
use std::io::BufRead as _;

use serde::Serialize;

use crate::failure::{Code, Failure};
use crate::id::PluginId;

/// Where the names of users are.
const PASSWD: &str = "/etc/passwd";
/// The longest name of a person who is acted for, in bytes; the wire to plugins takes that and more.
const MAX_PERSON: usize = 256;

/// On whose word something is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Principal {
    /// The user, as the kernel vouches for it; none for a plugin or a schedule, which
    /// its name tells.
    pub(crate) uid: Option<u32>,
    /// The user's name where this machine's own table has one; `plugin:<id>` for a plugin,
    /// `schedule` for one of the schedules.
    pub(crate) name: Option<String>,
    /// The person for whom the user says that it acts. Nobody vouches for it but the user.
    pub(crate) on_behalf_of: Option<String>,
}

impl Principal {
    /// A user of the admin API.
    pub(crate) fn user(uid: u32, on_behalf_of: Option<Person>) -> Self {
        Self { uid: Some(uid), name: name_of(uid), on_behalf_of: on_behalf_of.map(|p| p.0) }
    }

    /// The service itself: what nobody asked for, or what goes on after those who asked are gone.
    pub(crate) fn service() -> Self {
        let uid = nix::unistd::geteuid().as_raw();
        Self { uid: Some(uid), name: Some("bulkhead".to_owned()), on_behalf_of: None }
    }

    /// The clock: what a schedule of a plugin's manifest is due for.
    pub(crate) fn schedule() -> Self {
        Self { uid: None, name: Some("schedule".to_owned()), on_behalf_of: None }
    }

    /// Whoever did what was only seen afterwards.
    pub(crate) fn unknown() -> Self {
        Self { uid: None, name: Some("unknown".to_owned()), on_behalf_of: None }
    }

    /// A plugin that asks its host for something.
    pub(crate) fn plugin(id: &PluginId, on_behalf_of: Option<String>) -> Self {
        Self { uid: None, name: Some(format!("plugin:{id}")), on_behalf_of }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.uid) {
            (Some(name), _) => f.write_str(name)?,
            (None, Some(uid)) => write!(f, "uid {uid}")?,
            (None, None) => f.write_str("nobody")?,
        }
        match &self.on_behalf_of {
            Some(person) => write!(f, " for {person}"),
            None => Ok(()),
        }
    }
}

/// The name of a person who is acted for: 1 to 256 bytes of visible ASCII and single spaces, so that
/// it means the same in a header, a log line, a table and the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person(String);

impl std::str::FromStr for Person {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let invalid = |why: &str| {
            Failure::new(Code::InvalidRequest, format!("the header bulkhead-on-behalf-of {why}"))
                .with("header", "bulkhead-on-behalf-of")
        };
        if text.is_empty() || text.len() > MAX_PERSON {
            let why = format!("has {} bytes; 1 to {MAX_PERSON} are allowed", text.len());
            return Err(invalid(&why).with("limit", MAX_PERSON).with("used", text.len()));
        }
        if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Err(invalid("is not visible ASCII"));
        }
        if text.starts_with(' ') || text.ends_with(' ') || text.contains("  ") {
            return Err(invalid("has spaces at its ends or side by side"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of a user in this machine's own table. The name service is not asked: it would load
/// foreign modules into this process and could wait for a network, and the uid is what counts.
fn name_of(uid: u32) -> Option<String> {
    let file = std::fs::File::open(PASSWD).ok()?;
    let mut lines = std::io::BufReader::new(file).lines().map_while(Result::ok);
    lines.find_map(|line| name_in(&line, uid))
}

/// `name:password:uid:…`
fn name_in(line: &str, uid: u32) -> Option<String> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let found: u32 = fields.nth(1)?.parse().ok()?;
    (found == uid).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_bounded_and_plain() {
        for good in ["dr.smith", "Dr. A. Smith <a.smith@example.org>", &"x".repeat(256)] {
            assert_eq!(good.parse(), Ok(Person(good.to_owned())));
        }
        for bad in ["", " x", "x ", "a  b", "a\tb", "müller", "a\nb", &"x".repeat(257)] {
            let failure = bad.parse::<Person>().unwrap_err();
            assert_eq!(failure.code, Code::InvalidRequest, "{bad:?}");
            assert_eq!(failure.details["header"], "bulkhead-on-behalf-of");
        }
    }

    #[test]
    fn a_users_name_is_of_the_line_with_its_uid() {
        let line = "daemon:x:1:2:daemon:/usr/sbin:/usr/sbin/nologin";
        assert_eq!(name_in(line, 1).as_deref(), Some("daemon"));
        assert_eq!(name_in(line, 2), None, "that is the group");
        for bad in ["", "+", ":x:1:1", "a:b", "daemon:x:one:1"] {
            assert_eq!(name_in(bad, 1), None, "{bad:?}");
        }
        assert_eq!(Principal::user(0, None).name.as_deref(), Some("root"));
        assert_eq!(Principal::user(4_294_967_290, None).name, None);
    }

    #[test]
    fn it_is_shown_in_a_word() {
        let person = Some("dr.smith".parse().unwrap());
        assert_eq!(Principal::user(0, person).to_string(), "root for dr.smith");
        assert_eq!(Principal::user(4_294_967_290, None).to_string(), "uid 4294967290");
        assert_eq!(Principal::service().to_string(), "bulkhead");
        let plugin = Principal::plugin(&"victim".parse().unwrap(), None);
        assert_eq!(plugin.to_string(), "plugin:victim");
    }
}
