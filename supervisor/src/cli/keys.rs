//! Keys and signatures, without a service.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::Ended;
use super::args::{Keygen, Sign, Verify};
use super::password;
use super::problem::{Problem, printable};
use super::render::Screen;
use super::verbs::answer;
use crate::config::Config;
use crate::failure::{Code, Failure};
use crate::signing::{self, By, KeyPaths};
use crate::trust::{PublicKey, TrustStore};

pub(super) fn keygen(screen: &mut Screen, arguments: &Keygen) -> Result<(), Ended> {
    let paths = KeyPaths::of(arguments.secret.as_deref(), arguments.public.as_deref());
    if !arguments.force {
        // Before somebody thinks of a password.
        signing::check_free(&paths).map_err(Problem::from)?;
    }
    let password = if arguments.no_password {
        None
    } else {
        Some(password::new(arguments.password.password_file.as_deref()).map_err(Problem::from)?)
    };
    let made = signing::make(&paths, password, arguments.force).map_err(Problem::from)?;
    answer(screen, &document(&made)?, |screen| {
        screen.line(&format!("key {}", made.key))?;
        let how = if made.encrypted { "encrypted" } else { "not encrypted" };
        screen
            .line(&format!("{} is the secret half, {how}: keep it", made.secret_file.display()))?;
        screen.line(&format!("{} is the public half: give it away", made.public_file.display()))?;
        screen.line(&format!(
            "`bulkhead trust add {} --for ID` trusts it",
            made.public_file.display()
        ))
    })
}

pub(super) fn sign(screen: &mut Screen, arguments: &Sign) -> Result<(), Ended> {
    let secret = KeyPaths::of(arguments.secret.as_deref(), None).secret;
    let signature = beside(arguments.signature.as_deref(), &arguments.file);
    let key = signing::load(&secret, || {
        password::known(&secret, arguments.password.password_file.as_deref())
    })
    .map_err(Problem::from)?;
    let signed = signing::sign(&arguments.file, &signature, &key).map_err(Problem::from)?;
    answer(screen, &document(&signed)?, |screen| {
        screen.line(&format!(
            "{} is the signature of {} {} by key {}",
            signed.signature.display(),
            signed.id,
            signed.version,
            signed.key
        ))
    })
}

pub(super) fn verify(screen: &mut Screen, arguments: &Verify) -> Result<(), Ended> {
    let by = match (&arguments.public, &arguments.trust) {
        (Some(key), _) => By::Key(public_key(key)?),
        (None, Some(directory)) => By::Trust(TrustStore::at(directory)),
        (None, None) => By::Trust(TrustStore::at(Config::default().trust)),
    };
    let signature = beside(arguments.signature.as_deref(), &arguments.file);
    let verified = signing::verify(&arguments.file, &signature, &by).map_err(Problem::from)?;
    answer(screen, &document(&verified)?, |screen| {
        screen.line(&format!(
            "{} is {} {}, signed by key {}",
            arguments.file.display(),
            verified.id,
            verified.version,
            verified.key
        ))?;
        screen.line(&format!("the signer says: {}", printable(&verified.comment)))
    })
}

fn beside(signature: Option<&Path>, file: &Path) -> std::path::PathBuf {
    signature.map_or_else(|| signing::path_of(file), Path::to_owned)
}

/// A key as its text, or the file that has it.
fn public_key(given: &str) -> Result<PublicKey, Problem> {
    if let Ok(key) = given.parse() {
        return Ok(key);
    }
    let path = Path::new(given);
    let text = super::verbs::read_text(path)?;
    PublicKey::of_file(&text).map_err(|error| {
        let message = format!("{}: {error}", path.display());
        Failure::new(Code::InvalidRequest, message).with("path", path).into()
    })
}

fn document(value: &impl Serialize) -> Result<Value, Problem> {
    serde_json::to_value(value).map_err(|error| Failure::internal(error).into())
}
