//! The credentials that the service manager gives the service (systemd.exec(5), LoadCredential=).
//!
//! They are files that only the launcher can read. The supervisor asks for one when a plugin's
//! configuration names it, hands it to the plugin and keeps it nowhere.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

use crate::failure::{Code, Failure};

/// Where the service manager puts them.
const VARIABLE: &str = "CREDENTIALS_DIRECTORY";
/// No credential is longer: it must fit into a packet of the link, and into a configuration.
const MAX_LENGTH: u64 = 64 * 1024;
const MAX_NAME: usize = 255;

/// The text of a credential, without the line feed at its end.
///
/// NOT_FOUND: there is none of that name. INVALID_REQUEST: it is no name, or no text.
pub(super) fn read(name: &str) -> Result<String, Failure> {
    let directory = std::env::var_os(VARIABLE);
    let directory = directory.ok_or_else(|| {
        absent(name, &format!("the service has no credentials ({VARIABLE} is not set)"))
    })?;
    read_in(Path::new(&directory), name)
}

fn read_in(directory: &Path, name: &str) -> Result<String, Failure> {
    let invalid = |why: String| Failure::new(Code::InvalidRequest, why).with("credential", name);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !(1..=MAX_NAME).contains(&name.len()) || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(invalid(format!(
            "{name:?} is no name of a credential: use letters, digits, `.`, `_` and `-`"
        )));
    }
    let path = directory.join(name);
    // Not through a link, and not waiting for whoever would write to a pipe.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::options().read(true).custom_flags(flags.bits()).open(&path);
    let file = file.map_err(|error| absent(name, &format!("{}: {error}", path.display())))?;
    let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if !regular {
        return Err(invalid(format!("credential {name} is no regular file")));
    }
    let mut text = String::new();
    let read = file.take(MAX_LENGTH + 1).read_to_string(&mut text);
    match read {
        Ok(length) if length as u64 > MAX_LENGTH => {
            Err(invalid(format!("credential {name} is longer than {MAX_LENGTH} bytes")))
        }
        Ok(_) => {
            let end = text.strip_suffix('\n').map_or(text.len(), str::len);
            text.truncate(end);
            Ok(text)
        }
        Err(error) => Err(invalid(format!("credential {name} cannot be read as text: {error}"))),
    }
}

fn absent(name: &str, why: &str) -> Failure {
    Failure::new(
        Code::NotFound,
        format!(
            "there is no credential {name}: {why}; give it with LoadCredential={name}:… in the unit"
        ),
    )
    .with("what", "credential")
    .with("name", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_a_plain_file_of_that_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::write(path.join("db-password"), "geheim\n").unwrap();
        assert_eq!(read_in(path, "db-password").unwrap(), "geheim");
        std::fs::write(path.join("two"), "a\n\n").unwrap();
        assert_eq!(read_in(path, "two").unwrap(), "a\n", "one line feed is the editor's");
        assert_eq!(read_in(path, "absent").unwrap_err().code, Code::NotFound);
        std::os::unix::fs::symlink("db-password", path.join("link")).unwrap();
        assert_eq!(read_in(path, "link").unwrap_err().code, Code::NotFound);
        std::fs::create_dir(path.join("sub")).unwrap();
        std::fs::write(path.join("long"), vec![b'x'; MAX_LENGTH as usize + 1]).unwrap();
        std::fs::write(path.join("bytes"), [0xff, 0xfe]).unwrap();
        for bad in ["", ".", "..", "../db-password", "/etc/passwd", "a b", "sub", "long", "bytes"] {
            let failure = read_in(path, bad).unwrap_err();
            assert_eq!(failure.code, Code::InvalidRequest, "{bad:?}: {failure}");
        }
    }
}
