//! The command's environment: a few harmless variables of ours, and what was asked for.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use crate::cli::problem::Problem;

/// How text is shown and where a terminal is: nothing that says who we are or that makes a loader
/// load something.
const PASSED_ON: &[&str] = &[
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "TZ",
];

const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `given` as `K=V`, or `K` for our own value of it.
pub(super) fn of(given: &[OsString]) -> Result<Vec<(OsString, OsString)>, Problem> {
    build(given, |name| std::env::var_os(name))
}

fn build(
    given: &[OsString],
    ours: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<Vec<(OsString, OsString)>, Problem> {
    let mut env: Vec<(OsString, OsString)> =
        vec![("PATH".into(), SEARCH_PATH.into()), ("HOME".into(), "/tmp".into())];
    let passed = PASSED_ON.iter().filter_map(|name| Some((name.into(), ours(name.as_ref())?)));
    env.extend(passed);
    for word in given {
        let bytes = word.as_bytes();
        let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
            Some(0) => {
                return Err(Problem::usage(format!(
                    "--env {}: the variable has no name; write K=V",
                    word.to_string_lossy()
                )));
            }
            Some(at) => (
                OsString::from_vec(bytes[..at].to_vec()),
                OsString::from_vec(bytes[at + 1..].to_vec()),
            ),
            None => match ours(word) {
                Some(value) => (word.clone(), value),
                None => {
                    return Err(Problem::usage(format!(
                        "--env {0}: there is no such variable to pass on; write {0}=VALUE",
                        word.to_string_lossy()
                    )));
                }
            },
        };
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(given: &[&str]) -> Result<Vec<(OsString, OsString)>, Problem> {
        let given: Vec<OsString> = given.iter().map(OsString::from).collect();
        build(&given, |name| match name.to_str() {
            Some("TERM") => Some("vt100".into()),
            Some("LD_PRELOAD") => Some("evil.so".into()),
            Some("MINE") => Some("mine".into()),
            _ => None,
        })
    }

    fn value(env: &[(OsString, OsString)], name: &str) -> Option<OsString> {
        env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn only_what_is_harmless_or_asked_for_is_passed_on() {
        let env = env(&["A=1", "B=x=y", "MINE", "EMPTY=", "HOME=/data"]).unwrap();
        assert_eq!(value(&env, "TERM"), Some("vt100".into()));
        assert_eq!(value(&env, "LD_PRELOAD"), None);
        assert_eq!(value(&env, "A"), Some("1".into()));
        assert_eq!(value(&env, "B"), Some("x=y".into()));
        assert_eq!(value(&env, "MINE"), Some("mine".into()));
        assert_eq!(value(&env, "EMPTY"), Some("".into()));
        assert_eq!(value(&env, "HOME"), Some("/data".into()));
        assert_eq!(env.iter().filter(|(name, _)| name == "HOME").count(), 1);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert!(env(&["=x"]).unwrap_err().message.contains("no name"));
        assert!(env(&["ABSENT"]).unwrap_err().message.contains("ABSENT=VALUE"));
    }
}
