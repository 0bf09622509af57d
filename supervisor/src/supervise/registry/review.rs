//! What an installation looks at before it does anything, and shows to whoever asked for it.
//!
//! Theory of operation. The tree is in the store already: root's, read-only, verified. Here its
//! manifest and its entry are held against this machine and against the plugins that are installed.
//! What makes it impossible to run is an error now and not at the first start; what the operator can
//! still put right (a plugin that it depends on, installed later) is a warning here and an error at
//! the enable. No privilege is needed, and nothing of the tree is executed.

mod advisories;
mod asks;
mod compartment;
mod consent;
mod crates;
mod libraries;
mod machine;
mod object;
mod places;
#[cfg(test)]
mod sample;

use std::path::Path;

use bulkhead_ipc_protocol::PROTOCOL_VERSION;
use bulkhead_sandbox::probe::Machine;
use bulkhead_sandbox::{Layer, Missing, Policy, Strictness};
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{InstallOptions, Registry};
use crate::exposure::Exposure;
use crate::failure::{Code, Failure};
use crate::id::{Digest, PluginId};
use crate::link::Advisories;
use crate::manifest::{Manifest, Permission};
use crate::supervise::plugin::PluginHandle;

pub(crate) use advisories::Finding;
pub(crate) use asks::{Asks, PermissionAsk};
use compartment::{Compartment, Shown};
pub(crate) use consent::{Consent, Grant};
pub(crate) use libraries::Library;

/// What was found about a plugin that is to be installed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Review {
    #[schema(value_type = String)]
    pub(crate) id: PluginId,
    #[schema(value_type = String)]
    pub(crate) version: Version,
    /// Of the tree; a consent can name it.
    #[schema(value_type = String)]
    pub(crate) digest: Digest,
    pub(crate) asks: Asks,
    /// What it asks for that the installed version does not: an operator must consent to these.
    pub(crate) added: Vec<String>,
    /// What the installed version asks for and this one does not.
    pub(crate) removed: Vec<String>,
    /// The plugins that it depends on.
    pub(crate) dependencies: Vec<Dependency>,
    /// The loader and the libraries of its entry, as its compartment will have them. Empty for one
    /// that is linked statically.
    pub(crate) libraries: Vec<Library>,
    /// How many crates its entry lists (`cargo auditable`); null where it has no list.
    pub(crate) crates: Option<usize>,
    /// What the advisory database has against them; null where none is configured or there is no
    /// list.
    pub(crate) advisories: Option<Vec<Finding>>,
    /// How exposed this machine will be to it, as far as that is known before it has run.
    pub(crate) exposure: Exposure,
    /// What does not keep it from being installed and should be known.
    pub(crate) warnings: Vec<String>,
}

/// A plugin that another depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Dependency {
    #[schema(value_type = String)]
    pub(crate) id: PluginId,
    #[schema(value_type = String)]
    pub(crate) required: VersionReq,
    /// The version that is installed.
    #[schema(value_type = Option<String>)]
    pub(crate) found: Option<Version>,
    pub(crate) satisfied: bool,
}

/// What is read from the files of a tree.
struct Files {
    libraries: Vec<Library>,
    crates: Option<usize>,
    advisories: Option<Vec<Finding>>,
    warnings: Vec<String>,
}

/// A tree that was looked at.
pub(crate) struct Examined {
    pub(crate) review: Review,
    /// What the operator lets it do; none after a dry run, which asks for no word.
    pub(crate) grant: Option<Grant>,
}

impl Registry {
    /// Looks at a tree and holds it against what the request says: whether it is the one that was
    /// meant, and whether the operator's word covers what it asks for. `before` is the version that
    /// it is to replace.
    ///
    /// # Errors
    /// Those of [`review`](Self::review); [`Code::ExposureTooHigh`]; [`Code::ConsentRequired`]; [`Code::InvalidRequest`].
    pub(crate) async fn examine(
        &self,
        digest: Digest,
        root: &Path,
        manifest: &Manifest,
        options: &InstallOptions,
        before: Option<&PluginHandle>,
    ) -> Result<Examined, Failure> {
        options.expected().check(manifest)?;
        if let (Some(before), Some(archive)) = (before, &options.restore) {
            let (id, version) = (&manifest.id, &before.manifest.version);
            let message = format!(
                "{id} {version} is installed and has a state of its own; uninstall it before you \
                 install it with what {archive} has"
            );
            return Err(Failure::new(Code::Conflict, message).with("state", before.view().state));
        }
        let mut review = self.review(digest, root, manifest).await?;
        if !options.dry_run {
            let bounds = [options.max_exposure, self.settings.admission.max_exposure];
            for maximum in bounds.into_iter().flatten() {
                review.exposure.check(&manifest.id, maximum)?;
            }
        }
        let then = before
            .map(|before| (Asks::new(&before.manifest, |_| Vec::new()), before.view().granted));
        let then = then.as_ref().map(|(asks, granted)| consent::Before { asks, granted });
        (review.added, review.removed) = consent::difference(&review.asks, then.as_ref());
        let grant = (!options.dry_run)
            .then(|| {
                let (permissions, word) =
                    (options.permissions.as_deref(), options.consent.as_ref());
                consent::decide(digest, &review.asks, then.as_ref(), permissions, word)
            })
            .transpose()
            .map_err(|failure| review.beside(failure))?;
        Ok(Examined { review, grant })
    }

    /// Looks at a tree in the store that is to be installed.
    ///
    /// # Errors
    /// [`Code::VersionIncompatible`], [`Code::EntryInvalid`], [`Code::DependencyMissing`] for a
    /// library, [`Code::VulnerableDependency`] where the configuration refuses those,
    /// [`Code::ResourceExhausted`]: its limits are above the administrator's.
    async fn review(
        &self,
        digest: Digest,
        root: &Path,
        manifest: &Manifest,
    ) -> Result<Review, Failure> {
        check_protocol(manifest)?;
        self.settings.limits.admit(&manifest.id, &manifest.limits)?;
        let (tree, entry) = (root.to_owned(), manifest.entry());
        let policy = manifest.policy(self.settings.strict);
        let unbounded = self.machine.as_ref().and_then(|machine| unbounded(machine, &policy));
        let database = self.settings.advisories.clone();
        // Files are read, which can take as long as the disk does.
        let (allowed, id) = (self.settings.sources.clone(), manifest.id.clone());
        let files = tokio::task::spawn_blocking(move || {
            let mut files = read(&tree, &entry, &policy, database.as_ref())?;
            files.warnings.extend(places::warnings(&policy, &allowed, &id));
            Ok(files)
        });
        let files = files
            .await
            .unwrap_or_else(|error| Err(Failure::internal(format!("a review ended: {error}"))))?;
        let dependencies = self.dependencies(manifest);
        let mut warnings = files.warnings;
        warnings.extend(unbounded);
        warnings.extend(machine::warnings(manifest));
        warnings.extend(dependencies.iter().filter_map(Dependency::warning));
        Ok(Review {
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            digest,
            asks: Asks::new(manifest, |permission| self.opened(manifest, permission)),
            added: Vec::new(),
            removed: Vec::new(),
            dependencies,
            libraries: files.libraries,
            crates: files.crates,
            advisories: files.advisories,
            exposure: self.expected_exposure(manifest),
            warnings,
        })
    }

    /// The methods that a permission opens to a plugin, and the topics, of those that it depends on.
    pub(super) fn opened(&self, manifest: &Manifest, permission: &Permission) -> Vec<String> {
        let mut opened = Vec::new();
        for handle in manifest.dependencies.keys().filter_map(|id| self.find(id)) {
            let topics = &handle.manifest.events.permissions;
            let topics = topics.iter().filter(|(_, needed)| *needed == permission);
            opened.extend(topics.map(|(topic, _)| format!("events on {topic}")));
            for (service, provided) in &handle.manifest.provides {
                let needed = provided.methods.iter();
                for (name, method) in
                    needed.filter(|(_, it)| it.permission.as_ref() == Some(permission))
                {
                    let call = format!("{}/{}", service.as_str(), name.as_str());
                    opened.push(match method.description.as_str() {
                        "" => call,
                        description => format!("{call}: {description}"),
                    });
                }
            }
        }
        opened
    }

    /// The plugins that one depends on. They may be installed in any order, so one that is missing
    /// is refused when it is needed: at the enable.
    fn dependencies(&self, manifest: &Manifest) -> Vec<Dependency> {
        let found = |id: &PluginId| self.find(id).map(|handle| handle.manifest.version.clone());
        manifest
            .dependencies
            .iter()
            .map(|(id, required)| Dependency::new(id.clone(), required.clone(), found(id)))
            .collect()
    }
}

impl Review {
    /// Whoever is asked for a consent reads first what else was found.
    fn beside(&self, failure: Failure) -> Failure {
        match failure.code {
            Code::ConsentRequired => {
                failure.with("exposure", &self.exposure).with("warnings", &self.warnings)
            }
            _ => failure,
        }
    }
}

impl Dependency {
    fn new(id: PluginId, required: VersionReq, found: Option<Version>) -> Self {
        let satisfied = found.as_ref().is_some_and(|version| required.matches(version));
        Self { id, required, found, satisfied }
    }

    fn warning(&self) -> Option<String> {
        let Self { id, required, .. } = self;
        match &self.found {
            _ if self.satisfied => None,
            None => Some(format!(
                "it depends on {id} {required}, which is not installed; install that before you \
                 enable this"
            )),
            Some(found) => Some(format!(
                "it depends on {id} {required}, and {found} is installed; upgrade that before you \
                 enable this"
            )),
        }
    }
}

/// A bound that was asked for and cannot be had is no reason of an exposure, as who asks for none has none
/// either.
fn unbounded(machine: &Machine, policy: &Policy) -> Option<String> {
    let missing = machine.missing(policy).find(|missing| missing.layer == Layer::Io)?;
    let Missing { layer, why, remedy, .. } = missing;
    let then = match policy.strictness {
        Strictness::Strict => "it cannot be enabled",
        Strictness::BestEffort => "it runs without that",
    };
    let purpose = layer.purpose();
    Some(format!(
        "it asks for a {purpose}, and the layer {layer} is missing, so {then}: {why}; {remedy}"
    ))
}

fn check_protocol(manifest: &Manifest) -> Result<(), Failure> {
    if manifest.api.matches(&PROTOCOL_VERSION) {
        return Ok(());
    }
    Err(Failure::new(
        Code::VersionIncompatible,
        format!(
            "{} {} asks for protocol {}, this bulkhead speaks {PROTOCOL_VERSION}",
            manifest.id, manifest.version, manifest.api
        ),
    )
    .with("what", "api")
    .with("required", manifest.api.to_string())
    .with("found", PROTOCOL_VERSION.to_string()))
}

/// Reads the entry of a tree.
fn read(
    tree: &Path,
    entry: &str,
    policy: &Policy,
    database: Option<&Advisories>,
) -> Result<Files, Failure> {
    let compartment = Compartment::new(policy, tree);
    let libraries = libraries::resolve(&compartment, entry)?;
    let mut warnings = Vec::new();
    let listed = match compartment.open(&Compartment::entry(entry)) {
        Some(Shown::File(file)) => crates::read(&file).unwrap_or_else(|why| {
            warnings.push(format!("the list of crates in {entry} is not read: {why}"));
            None
        }),
        Some(Shown::Unread) | None => None,
    };
    let advisories = match (database, &listed) {
        (None, _) => None,
        (Some(_), None) => {
            warnings.push(format!(
                "{entry} has no list of its crates, so no advisory is known of; built with `cargo \
                 auditable` it would have one"
            ));
            None
        }
        (Some(database), Some(crates)) => Some(consult(database, crates, &mut warnings)?),
    };
    Ok(Files { libraries, crates: listed.map(|listed| listed.len()), advisories, warnings })
}

/// Asks the database, and refuses where the configuration says so.
fn consult(
    database: &Advisories,
    crates: &[crates::Crate],
    warnings: &mut Vec<String>,
) -> Result<Vec<Finding>, Failure> {
    let found = match advisories::find(&database.path, crates) {
        Ok(found) => found,
        // Where findings refuse, not to know is no leave.
        Err(error) if database.refuse => {
            return Err(
                Failure::new(Code::ConfigInvalid, error.to_string()).with("path", &database.path)
            );
        }
        Err(error) => {
            warnings.push(error.to_string());
            return Ok(Vec::new());
        }
    };
    // What only informs (a crate that nobody maintains) is told and no reason to refuse.
    let faults: Vec<&Finding> = found.iter().filter(|it| it.informational.is_none()).collect();
    if database.refuse
        && let Some(first) = faults.first()
    {
        let ids: Vec<&str> = faults.iter().map(|finding| finding.id.as_str()).collect();
        return Err(Failure::new(
            Code::VulnerableDependency,
            format!(
                "it is built with {} {}, which has a known fault: {} ({}); ask its author for one \
                 that is built with a mended version",
                first.name, first.version, first.id, first.title
            ),
        )
        .with("dependency", &first.name)
        .with("required", first.patched.join(", "))
        .with("found", first.version.to_string())
        .with("advisories", ids));
    }
    for finding in &found {
        warnings.push(format!(
            "{} {}: {}: {}",
            finding.name, finding.version, finding.id, finding.title
        ));
    }
    Ok(found)
}

#[cfg(test)]
#[path = "review/review_tests.rs"]
mod tests;
