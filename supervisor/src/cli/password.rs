//! The password of a secret key: from a file, or from the terminal without an echo.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use crate::failure::{Code, Failure};

/// minisign takes no longer one.
const MAX_BYTES: u64 = 1024;

/// Of a key that exists.
pub(super) fn known(key: &Path, file: Option<&Path>) -> Result<String, Failure> {
    match file {
        Some(file) => first_line(file),
        None => ask(&format!("Password of {}: ", key.display())),
    }
}

/// Of a new key: typed twice.
pub(super) fn new(file: Option<&Path>) -> Result<String, Failure> {
    let password = if let Some(file) = file {
        first_line(file)?
    } else {
        let first = ask("Password for the new key: ")?;
        if first != ask("Once more: ")? {
            return Err(invalid("the two passwords differ; nothing was written".to_owned()));
        }
        first
    };
    if password.is_empty() {
        let message = "an empty password protects nothing; --no-password says that you mean it";
        return Err(invalid(message.to_owned()));
    }
    if password.len() as u64 > MAX_BYTES {
        return Err(invalid(format!("the password is longer than {MAX_BYTES} bytes")));
    }
    Ok(password)
}

fn ask(prompt: &str) -> Result<String, Failure> {
    rpassword::prompt_password(prompt).map_err(|error| {
        invalid(format!(
            "the password cannot be asked for, as there is no terminal ({error}); give --password-file"
        ))
    })
}

fn first_line(path: &Path) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => Code::NotFound,
            _ => Code::InvalidRequest,
        };
        let message = format!("cannot read the password from {}: {error}", path.display());
        Failure::new(code, message).with("path", path).with("what", "file").with("name", path)
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut line = String::new();
    // One more, and the end of the line, so that a longer one is refused and not cut.
    BufReader::new(file.take(MAX_BYTES + 3)).read_line(&mut line).map_err(unreadable)?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

fn invalid(message: String) -> Failure {
    Failure::new(Code::InvalidRequest, message)
}
