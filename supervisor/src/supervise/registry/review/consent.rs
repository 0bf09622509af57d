//! Whether the operator's word covers what a plugin asks for, and what it is granted then.
//!
//! ```text
//! asks nothing, or nothing new        no word is needed
//! consent: all | the tree's digest    covers everything
//! permissions: […]                    covers the permissions: these are granted, and no other
//! else                                CONSENT_REQUIRED, with what to consent to
//! ```
//! A word about permissions says nothing of ports and files, so where those are asked for as well it
//! is not enough by itself. An upgrade needs a word for what the version before did not ask for;
//! what was withheld from that stays withheld.
//!
//! What is mounted shows what is beneath it, so a place cannot be withheld while one above it is
//! granted: that is refused, and an upgrade that makes it so withholds the one above as well.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;

use bulkhead_sandbox::Policy;
use serde::{Deserialize, Serialize};

use super::asks::{Asks, line_of};
use crate::failure::{Code, Failure};
use crate::id::{Digest, PluginId};
use crate::manifest::{HostPath, Manifest, Permission};

/// What the operator lets a plugin do. Kept with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// Of those that the manifest asks for.
    pub(crate) permissions: Vec<Permission>,
    /// Places of the machine that the manifest asks for and the plugin is not to have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) withheld_places: Vec<HostPath>,
}

impl Grant {
    /// All that a manifest asks for.
    pub(crate) fn all(manifest: &Manifest) -> Self {
        Self { permissions: manifest.permissions.clone(), withheld_places: Vec::new() }
    }

    /// The same with just those places of the machine.
    pub(crate) fn with_places(&self, manifest: &Manifest, places: &[PathBuf]) -> Self {
        let mut withheld_places = manifest.sandbox.places();
        withheld_places.retain(|place| !places.iter().any(|one| one == place.as_path()));
        Self { permissions: self.permissions.clone(), withheld_places }
    }

    /// What the manifest asks for, less the places that are withheld.
    pub(crate) fn manifest<'a>(&self, manifest: &'a Manifest) -> Cow<'a, Manifest> {
        if self.withheld_places.is_empty() {
            return Cow::Borrowed(manifest);
        }
        let mut granted = manifest.clone();
        let is_granted = |place: &HostPath| !self.withheld_places.contains(place);
        granted.sandbox.read.retain(is_granted);
        granted.sandbox.write.retain(is_granted);
        Cow::Owned(granted)
    }

    /// The policy of a plugin's compartment: what its manifest asks for, less what is withheld.
    pub(crate) fn policy(&self, manifest: &Manifest, strict: bool) -> Policy {
        self.manifest(manifest).policy(strict)
    }

    /// Whether it would really be without what is withheld, where those `places` are asked for.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] with `place`, and `above`: a place that is granted and has that one
    /// beneath it.
    pub(crate) fn check_places(&self, id: &PluginId, places: &[HostPath]) -> Result<(), Failure> {
        let found = places.iter().find_map(|above| Some((self.beneath(above)?, above)));
        let Some((place, above)) = found else { return Ok(()) };
        let message = format!(
            "{id} cannot be without {place} while it is granted {above}, which has that beneath it; \
             withhold {above} too, or grant both"
        );
        Err(Failure::new(Code::InvalidRequest, message).with("place", place).with("above", above))
    }

    /// Withholds also each of the `places` that has one beneath it that is withheld.
    pub(crate) fn withhold_above(&mut self, places: &[HostPath]) {
        let above = places.iter().filter(|place| self.beneath(place).is_some());
        let above: Vec<HostPath> = above.cloned().collect();
        self.withheld_places.extend(above);
    }

    /// What is withheld and is beneath a place that is granted.
    fn beneath(&self, above: &HostPath) -> Option<&HostPath> {
        if self.withheld_places.contains(above) {
            return None;
        }
        self.withheld_places.iter().find(|place| place.as_path().starts_with(above.as_path()))
    }
}

/// How a request answers for what the plugin asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Consent {
    /// Whatever it is. For scripts, which trust the package by its signature.
    All,
    /// What was shown of the tree with this digest.
    Tree(Digest),
}

impl TryFrom<String> for Consent {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        text.parse().map(Self::Tree).map_err(|_| {
            format!(
                "consent {text:?} is neither \"all\" nor the digest of a tree; a dry run tells that"
            )
        })
    }
}

impl From<Consent> for String {
    fn from(consent: Consent) -> String {
        match consent {
            Consent::All => "all".to_owned(),
            Consent::Tree(digest) => digest.to_string(),
        }
    }
}

/// What a version asked for and was granted that is to be replaced.
pub(super) struct Before<'a> {
    pub(super) asks: &'a Asks,
    pub(super) granted: &'a Grant,
}

/// What is new and what is no more, by lines.
pub(super) fn difference(asks: &Asks, before: Option<&Before<'_>>) -> (Vec<String>, Vec<String>) {
    let now = asks.lines();
    let then = before.map(|before| before.asks.lines()).unwrap_or_default();
    (now.difference(&then).cloned().collect(), then.difference(&now).cloned().collect())
}

/// The grant, if the request's word covers what is asked for.
///
/// # Errors
/// [`Code::ConsentRequired`] with `digest`, `permissions`, `network`, `sandbox`, `added`, `removed`.
/// [`Code::InvalidRequest`]: a permission is to be granted that is not asked for.
pub(super) fn decide(
    digest: Digest,
    asks: &Asks,
    before: Option<&Before<'_>>,
    permissions: Option<&[Permission]>,
    consent: Option<&Consent>,
) -> Result<Grant, Failure> {
    let asked: BTreeSet<&Permission> = asks.permissions.iter().map(|one| &one.name).collect();
    let chosen: Option<BTreeSet<&Permission>> = permissions.map(|all| all.iter().collect());
    if let Some(other) = chosen.iter().flatten().find(|one| !asked.contains(*one)) {
        return Err(Failure::new(
            Code::InvalidRequest,
            format!("{other} cannot be granted: the plugin does not ask for it"),
        )
        .with("permission", other));
    }
    let (added, removed) = difference(asks, before);
    let covered = match consent {
        Some(Consent::All) => true,
        Some(Consent::Tree(named)) => *named == digest,
        None => false,
    };
    let answered = chosen.as_ref().map(|_| asks.lines_of_permissions()).unwrap_or_default();
    if !covered && added.iter().any(|line| !answered.contains(line)) {
        return Err(required(digest, asks, &added, &removed, consent.is_some()));
    }
    let granted = match (chosen, before) {
        (Some(chosen), _) => chosen,
        (None, None) => asked,
        (None, Some(before)) => asked
            .into_iter()
            .filter(|one| before.granted.permissions.contains(one) || added.contains(&line_of(one)))
            .collect(),
    };
    // Only of what it still asks for, so that what it asks for anew later needs a new word.
    let places = asks.sandbox.places();
    let withheld = before.map(|before| before.granted.withheld_places.as_slice());
    let still = withheld.unwrap_or_default().iter().filter(|one| places.contains(one));
    let mut grant = Grant {
        permissions: granted.into_iter().cloned().collect(),
        withheld_places: still.cloned().collect(),
    };
    grant.withhold_above(&places);
    Ok(grant)
}

fn required(
    digest: Digest,
    asks: &Asks,
    added: &[String],
    removed: &[String],
    other_content: bool,
) -> Failure {
    let why = if other_content {
        "the consent is for another content than this"
    } else {
        "nobody has consented to that yet"
    };
    Failure::new(
        Code::ConsentRequired,
        format!(
            "it asks for more than a plugin has by itself ({}), and {why}; consent with \
             --yes, or \"consent\": \"{digest}\"",
            added.join(", ")
        ),
    )
    .with("digest", digest)
    .with("permissions", &asks.permissions)
    .with("network", &asks.network)
    .with("sandbox", &asks.sandbox)
    .with("added", added)
    .with("removed", removed)
}

#[cfg(test)]
#[path = "consent_tests.rs"]
mod tests;
