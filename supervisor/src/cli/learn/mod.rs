//! `bulkhead learn`: what a plugin needs, found out by running it.
//!
//! Theory of operation. The plugin lives the life of `bulkhead test`, and besides whatever command the
//! author gives, under a service of this run's own that has its system calls watched instead of refused
//! (`bulkhead_sandbox::learning`): each call that the narrowest profile does not allow, and each that names
//! a file or an address, is first put to this process ([`watch`]), which lets it go on, unless no manifest
//! could allow it. Every other layer holds, so a file that is not granted is still not there: but that it
//! was asked for is seen. What was seen ([`observed`]) becomes what the manifest would have to say
//! ([`proposal`], [`places`]). What comes after a file that could be opened shows only in a run that has the
//! file: the next one is given it, if the author agrees ([`agreement`]), as a plugin that tries to reach a
//! thing is no reason to let it. When nothing new comes, the plugin lives once more under the proposal alone,
//! enforced by a service as it will be elsewhere: only if it lives as well then is the proposal enough.
//!
//! What was granted and no run has used is what the present manifest asks for beyond the proposal. What no
//! run has exercised is not learned, and said to be.

mod agreement;
mod edit;
mod homes;
mod life;
mod observed;
mod places;
mod proposal;
mod report;
mod watch;

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Map, Value};

use self::agreement::{Agreement, Word};
use self::homes::Homes;
use self::life::Lived;
use self::observed::Observed;
use self::places::Ground;
use self::proposal::{Asked, Proposal, propose};
use self::report::{Incomplete, Learned, Report};
use self::watch::Watch;
use super::args::{Global, Learn, Run, StrictnessFlags};
use super::client::{Ask, Client};
use super::conformance::Life;
use super::problem::Problem;
use super::project::{self, Built, Project};
use super::run::{self, Interrupts, Plan, Scratch, Service};
use super::{Ended, block_on, finish};
use crate::failure::Code;
use crate::id::PluginId;
use crate::manifest::{FILE_NAME, HostPort, Manifest, Network};
use crate::refusal::KEPT;

/// So often it is run to learn. Each run can only find what the grants of the one before opened.
const RUNS: usize = 5;

pub(super) fn learn(arguments: &Learn, global: &Global) -> ExitCode {
    // A service that is named there is another one.
    let global = Global { socket: None, json: global.json };
    finish(block_on(whole(arguments, &global)), global.json)
}

async fn whole(arguments: &Learn, global: &Global) -> Result<(), Ended> {
    let mut interrupts = Interrupts::new()?;
    let project = Project::find(&arguments.project)?;
    let mut report = Report::new(global.json);
    report.begin()?;
    let built = tokio::select! {
        built = project.build() => built?,
        () = interrupts.next() => return Err(interrupted().into()),
    };
    let others = run::open(&arguments.project.with)?;
    let school = School {
        arguments,
        global,
        built: &built,
        others: &others.directories,
        homes: Homes::of_this_machine(),
    };
    let file = project.root().join(FILE_NAME);
    // It may be a link, which stays.
    let file = file.canonicalize().map_err(|error| cannot("find", &file, &error))?;
    let text = read(&file)?;
    let learned = school.learn(&text, &mut interrupts, &mut report).await?;
    report.tell(&learned)?;
    if let Some(incomplete) = &learned.incomplete {
        let lines = incomplete.lines().to_vec();
        return Err(refused("LEARNING_INCOMPLETE", incomplete.to_string(), lines).into());
    }
    if !learned.faults.is_empty() {
        let message = format!(
            "what was learned is not enough, the plugin does not live under it: {}",
            learned.faults.join("; ")
        );
        return Err(refused("LEARNING_INCOMPLETE", message, learned.faults.clone()).into());
    }
    let changes: Vec<String> = learned.lacking.iter().chain(&learned.unused).cloned().collect();
    if arguments.check && !changes.is_empty() {
        let message = format!(
            "{FILE_NAME} lacks {} and has {} too many; `bulkhead learn --write` changes it",
            counted(learned.lacking.len()),
            counted(learned.unused.len())
        );
        return Err(refused("MANIFEST_NOT_LEARNED", message, changes).into());
    }
    if arguments.write && learned.text != text {
        if read(&file)? != text {
            let message = format!(
                "{} was changed while the plugin was learned from, and stays as it is; learn again",
                file.display()
            );
            return Err(Problem::new(Code::Conflict, message).into());
        }
        replace(&file, &learned.text)?;
        report.written(&file)?;
    }
    Ok(())
}

fn counted(lines: usize) -> String {
    if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") }
}

/// What the runs have in common.
struct School<'a> {
    arguments: &'a Learn,
    global: &'a Global,
    built: &'a Built,
    others: &'a [std::path::PathBuf],
    homes: Homes,
}

/// What a run is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Learning,
    /// As it will be elsewhere.
    Enforcing,
}

impl School<'_> {
    async fn learn(
        &self,
        text: &str,
        interrupts: &mut Interrupts,
        report: &mut Report,
    ) -> Result<Learned, Ended> {
        let present = Asked::of(&self.built.manifest);
        let mut observed = Observed::default();
        // Of the hosts, only those that it asks for: see `Asked::with`.
        let mut given = match &present.network {
            Network::Hosts(_) => Asked { network: Network::None, ..present.clone() },
            _ => present.clone(),
        };
        let mut agreement = Agreement::new(&present, self.arguments.yes, self.global.json);
        let mut runs = 0;
        let (proposal, lived, incomplete) = loop {
            runs += 1;
            let manifest = edit::edited(text, &given)?;
            let (lived, seen) = self.run(&manifest, Purpose::Learning, interrupts).await?;
            observed.join(seen);
            let proposal: Proposal = propose(&observed, &present, &self.homes);
            let next = present.with(&proposal.asked);
            let new = next.beyond(&given);
            report.ran(runs, &new)?;
            if next == given {
                // What no run has done it may need all the same.
                let failed = lived.failed_start().map(|why| Incomplete::NotStarted(why.to_owned()));
                break (proposal, lived, failed);
            }
            if runs == RUNS {
                break (proposal, lived, Some(Incomplete::Unsettled(new)));
            }
            let lacking = agreement.lacks(&next);
            if !lacking.is_empty() {
                let word = agreement.on(&lacking, &next, lived.failed_start(), interrupts).await?;
                if word != Word::Yes {
                    let asked = word == Word::No;
                    break (proposal, lived, Some(Incomplete::NotAgreed { lines: lacking, asked }));
                }
            }
            given = next;
        };
        // It has nothing then that the last run did not have.
        let manifest = edit::edited(text, &proposal.asked)?;
        let mut faults = Vec::new();
        if incomplete.is_none() {
            let (replayed, _) = self.run(&manifest, Purpose::Enforcing, interrupts).await?;
            faults = replayed.against(&lived);
            report.replayed(&faults)?;
        }
        Ok(Learned {
            id: self.built.manifest.id.clone(),
            unused: present.beyond(&proposal.asked),
            lacking: proposal.asked.beyond(&present),
            before: text.to_owned(),
            text: manifest,
            runs,
            observed,
            proposal,
            lived,
            incomplete,
            faults,
            has_command: !self.arguments.command.is_empty(),
        })
    }

    /// One service, one life of the plugin.
    async fn run(
        &self,
        manifest: &str,
        purpose: Purpose,
        interrupts: &mut Interrupts,
    ) -> Result<(Lived, Observed), Problem> {
        let scratch = Scratch::new()?;
        let tree = scratch.path().join(self.built.manifest.id.as_str());
        project::copy(&self.built.directory, &tree)
            .map_err(|error| cannot("copy", &self.built.directory, &error))?;
        let file = tree.join(FILE_NAME);
        std::fs::write(&file, manifest).map_err(|error| cannot("write", &file, &error))?;
        let mut directories = vec![tree.clone()];
        directories.extend(self.others.iter().cloned());
        let flags = &self.arguments.project;
        let plan = Plan::of(&directories, &flags.config)?;
        let manifest = Manifest::load(&tree)?;
        let strictness = match purpose {
            // It goes without a layer.
            Purpose::Learning => StrictnessFlags { strict: false, best_effort: true },
            Purpose::Enforcing => flags.strictness,
        };
        let arguments = Run { paths: directories, config: Vec::new(), state: None, strictness };
        let mut service = Service::prepare(&arguments, self.global, &plan)?;
        let watch = match purpose {
            Purpose::Learning => {
                let socket = scratch.path().join("learn.sock");
                service.learn_from(&manifest.id, &socket);
                let ground = Ground {
                    homes: self.homes.clone(),
                    read: manifest.sandbox.read.clone(),
                    write: manifest.sandbox.write.clone(),
                };
                Some(Watch::at(&socket, manifest.policy(false), ground)?)
            }
            Purpose::Enforcing => None,
        };
        let lived = tokio::select! {
            lived = self.live(&mut service, &manifest, &plan, &tree) => lived,
            () = interrupts.next() => Err(interrupted()),
        };
        let ended = service.end(interrupts).await;
        // After the plugin's last process: until then somebody must answer.
        let observed = watch.map(Watch::end).transpose()?;
        let (lived, refusals) = lived?;
        ended?;
        let mut observed = observed.unwrap_or_default();
        observed.hosts.extend(refusals.hosts);
        observed.has_unkept = refusals.has_unkept;
        Ok((lived, observed))
    }

    async fn live(
        &self,
        service: &mut Service,
        manifest: &Manifest,
        plan: &Plan,
        tree: &Path,
    ) -> Result<(Lived, Refusals), Problem> {
        service.start()?;
        service.ready().await?;
        let client = &service.client;
        let life = Life { client, manifest, plan, tree };
        let lived = life::live(&life, &self.arguments.command).await?;
        let mut refusals = refusals(client, &manifest.id).await?;
        if let Network::Hosts(granted) = &manifest.network {
            // Asked for in an earlier run, and granted in this one.
            refusals.hosts.extend(granted.iter().cloned());
        }
        Ok((lived, refusals))
    }
}

/// What the host was asked to connect the plugin to, and did not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Refusals {
    /// The pairs that would grant it: of a name that leads to this machine that is the address.
    hosts: Vec<HostPort>,
    has_unkept: bool,
}

async fn refusals(client: &Client, id: &PluginId) -> Result<Refusals, Problem> {
    match client.json(Ask::get(format!("/v1/plugins/{id}"))).await {
        Ok(plugin) => Ok(Refusals::of(&plugin)),
        // It was not even installed: its life has the reason.
        Err(problem) if problem.code == Code::NotFound.to_string() => Ok(Refusals::default()),
        Err(problem) => Err(problem),
    }
}

impl Refusals {
    /// Of a plugin as the service tells of it. The audit is no place to look: of many in a minute it has some.
    fn of(plugin: &Value) -> Self {
        let denials = plugin["denials"].as_array().map(Vec::as_slice).unwrap_or_default();
        let granting = |denial: &Value| -> Option<HostPort> {
            let pair = denial["remedy"].as_str()?.strip_prefix("[network] hosts = [\"")?;
            pair.strip_suffix("\"]")?.parse().ok()
        };
        let hosts = denials.iter().filter_map(granting).collect();
        Self { hosts, has_unkept: denials.len() >= KEPT }
    }
}

fn read(file: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(file).map_err(|error| cannot("read", file, &error))
}

/// The whole file at once, with its mode and its owner.
fn replace(file: &Path, text: &str) -> Result<(), Problem> {
    let written = || -> std::io::Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::MetadataExt as _;
        let directory = file.parent().unwrap_or(Path::new("."));
        let mut new = tempfile::NamedTempFile::new_in(directory)?;
        new.write_all(text.as_bytes())?;
        let (old, own) = (std::fs::metadata(file)?, new.as_file().metadata()?);
        // Root learns of what is an author's.
        if (old.uid(), old.gid()) != (own.uid(), own.gid()) {
            std::os::unix::fs::fchown(new.as_file(), Some(old.uid()), Some(old.gid()))?;
        }
        new.as_file().set_permissions(old.permissions())?;
        new.as_file().sync_all()?;
        new.persist(file)?;
        Ok(())
    };
    written().map_err(|error| cannot("write", file, &error))
}

fn refused(code: &str, message: String, lines: Vec<String>) -> Problem {
    let details = Map::from_iter([("lines".to_owned(), Value::from(lines))]);
    Problem { code: code.to_owned(), message, details, exit_code: 1 }
}

fn interrupted() -> Problem {
    let message = "interrupted before anything was learned".to_owned();
    Problem { code: "INTERRUPTED".to_owned(), message, details: Map::new(), exit_code: 1 }
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Problem {
    Problem::new(Code::StorageFailed, format!("cannot {what} {}: {error}", path.display()))
        .with("path", path.display().to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refused_connection_is_learned_by_what_grants_it() {
        let denial =
            |access: &str, remedy: Option<&str>| json!({ "access": access, "remedy": remedy });
        let plugin = json!({ "denials": [
            denial("connect db.example.org:5432", Some("[network] hosts = [\"127.0.0.1:5432\"]")),
            denial("connect fhir.example.org:443", Some("[network] hosts = [\"fhir.example.org:443\"]")),
            denial("connect a b:1", None),
            denial("bpf", Some("[sandbox] allow_syscalls = [\"bpf\"]")),
        ]});
        let refusals = Refusals::of(&plugin);
        let pairs: Vec<String> = refusals.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(pairs, ["127.0.0.1:5432", "fhir.example.org:443"]);
        assert!(!refusals.has_unkept);
        let many = json!({ "denials": vec![denial("bpf", None); KEPT] });
        assert!(Refusals::of(&many).has_unkept);
        assert_eq!(Refusals::of(&json!({})), Refusals::default());
    }
}
