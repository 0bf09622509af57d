//! Where the people of this machine keep what is theirs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PASSWD: &str = "/etc/passwd";
/// The first uid of a person (login.defs(5), UID_MIN).
const FIRST_PERSON: u32 = 1000;

/// Home directories.
#[derive(Clone, Debug, Default)]
pub(super) struct Homes(BTreeSet<PathBuf>);

impl Homes {
    pub(super) fn of_this_machine() -> Self {
        let table = fs::read(PASSWD).unwrap_or_default();
        let own = std::env::var_os("HOME").map(PathBuf::from);
        Self::of(&String::from_utf8_lossy(&table), own, nix::unistd::getuid().as_raw())
    }

    /// Those in a table of users (passwd(5)) of root, of people and of this user; and this one.
    pub(super) fn of(table: &str, own: Option<PathBuf>, user: u32) -> Self {
        let home = |line: &str| {
            let mut fields = line.split(':');
            let uid: u32 = fields.nth(2)?.parse().ok()?;
            let home = fields.nth(2)?;
            (uid == 0 || uid >= FIRST_PERSON || uid == user).then(|| PathBuf::from(home))
        };
        let homes = table.lines().filter_map(home).chain(own).filter(|home| home.is_absolute());
        let mut all = BTreeSet::new();
        for home in homes {
            // Paths are held against it when they are resolved.
            all.extend(fs::canonicalize(&home));
            all.insert(home);
        }
        Self(all)
    }

    /// Whether it is one of them, or above one.
    pub(super) fn has(&self, directory: &Path) -> bool {
        self.0.iter().any(|home| home.starts_with(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_those_of_people_of_root_and_ones_own() {
        let table = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/srv/www:/bin/false\nbroken\n\
                     ci:x:990:990::/srv/ci:/bin/sh\neve:x:1000:1000:Eve,,,:/srv/people/eve:/bin/sh\n";
        let homes = Homes::of(table, Some("/srv/own".into()), 990);
        for home in ["/root", "/srv/ci", "/srv/people/eve", "/srv/people", "/srv/own", "/srv"] {
            assert!(homes.has(Path::new(home)), "{home}");
        }
        for other in ["/srv/www", "/srv/people/eve/project", "/srv/own/a", "/opt"] {
            assert!(!homes.has(Path::new(other)), "{other}");
        }
    }
}
