//! What was refused to plugins: the system call that one died of, what Landlock denied, what the grant lacked.
//!
//! Theory of operation. The launcher opens the kernel's audit stream, where it may, and hands it on: its
//! records hold text that plugins chose, so they are read here. One task reads them. A system call ends
//! its process, so it is kept until somebody who tells of the death asks for that of the plugin's uid,
//! and waits a moment for it. What Landlock denied the plugin goes on with: each different denial is told
//! once, as a warning and in the audit, and counted in the plugin's [`Ledger`]. What comes faster than it
//! can be read is dropped by the kernel. What the service itself refuses a plugin, as its grant lacks it, is
//! told and counted alike; whoever refuses it has put it into the audit.

mod ledger;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhead_sandbox::kernel_audit::{self, Denial, Domains, JUST_BEFORE, LATENESS, Refusal};
use bulkhead_sandbox::{Cause, Exit};
use serde_json::json;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::audit::{Action, Entry, Outcome, Throttle};
use super::principal::Principal;
use super::registry::Registry;
use crate::clock::Monotonic;
use crate::failure::Code;
use crate::id::PluginId;
use crate::link::Exited;
use crate::refusal::{Refused, Settings};
pub(crate) use ledger::Counted;
use ledger::Ledger;

/// Refusals that nobody has asked for yet; the oldest go first.
const KEPT: usize = 256;
/// Records that are read in each of these spans: a plugin that is refused something in a loop must not
/// cost the others their supervisor.
const BURST: usize = 256;
const SPAN: Duration = Duration::from_millis(100);
/// The first Landlock ABI that tells of what it denies.
const LANDLOCK_TELLS: u32 = 7;
/// Of what was refused before a death, so many are told with it.
const TOLD: usize = 3;

#[derive(Default)]
pub(crate) struct Denials {
    /// Whether there is a stream.
    observable: bool,
    known: Mutex<Known>,
    arrived: Notify,
    told: Mutex<Throttle>,
}

#[derive(Default)]
struct Known {
    domains: Domains,
    /// Calls that processes died of.
    calls: VecDeque<Denial>,
    /// What Landlock refused to processes that are no plugins, or not known to be ones yet.
    early: VecDeque<Denial>,
    plugins: BTreeMap<PluginId, Ledger>,
}

/// A denial that was not seen before.
struct News {
    plugin: PluginId,
    refused: Refused,
}

/// Reads the stream from now on. Must run inside the runtime.
pub(crate) fn listen(registry: &Arc<Registry>, stream: OwnedFd) -> io::Result<()> {
    #[expect(
        deprecated,
        reason = "its replacement is unsafe, for types that close early: OwnedFd does not"
    )]
    let stream = AsyncFd::with_interest(stream, Interest::READABLE)?;
    tokio::spawn(keep(Arc::clone(registry), stream));
    Ok(())
}

async fn keep(registry: Arc<Registry>, stream: AsyncFd<OwnedFd>) {
    let denials = &registry.denials;
    let (mut since, mut read) = (Instant::now(), 0);
    loop {
        let receive =
            |stream: &OwnedFd| kernel_audit::receive(stream.as_fd(), &mut denials.known().domains);
        match stream.async_io(Interest::READABLE, receive).await {
            Ok(found) => {
                for news in found.into_iter().filter_map(|denial| denials.add(denial)) {
                    tell(&registry, news).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the kernel's audit stream cannot be read any more");
                return;
            }
        }
        read += 1;
        if since.elapsed() >= SPAN {
            (since, read) = (Instant::now(), 0);
        } else if read == BURST {
            tokio::time::sleep_until(since + SPAN).await;
        }
    }
}

/// Tells of a denial by the kernel, in the log, as an event and in the audit.
async fn tell(registry: &Registry, News { plugin, refused }: News) {
    let principal = Principal::plugin(&plugin, None);
    let entry = Entry::new(principal, Action::Denied, Outcome::Failed(Code::PermissionDenied));
    registry.audit.refused(entry.about(&plugin).with("refused", &refused)).await;
    announce(registry, &plugin, &refused);
}

/// Tells of a denial in the log and as an event.
fn announce(registry: &Registry, plugin: &PluginId, refused: &Refused) {
    let Some(untold) = registry.denials.may_tell(plugin) else { return };
    let message = format!("{} refused {plugin} {}", refused.layer(), refused.sentence());
    tracing::warn!(%plugin, "{message}");
    let mut body = json!(refused);
    body["code"] = json!(Code::PermissionDenied);
    body["message"] = json!(message);
    if untold > 0 {
        body["untold"] = json!(untold);
    }
    registry.events.emit("plugin:warning", plugin, body);
}

impl Denials {
    pub(crate) fn new(observable: bool) -> Arc<Self> {
        Arc::new(Self { observable, ..Self::default() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing that holds it can leave it half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a warning of that plugin's is told, and how many before it were not.
    fn may_tell(&self, plugin: &PluginId) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.admit(plugin.as_str(), Monotonic::now())
    }

    fn add(&self, denial: Denial) -> Option<News> {
        let news = self.known().add(denial);
        self.arrived.notify_waiters();
        news
    }

    /// A start of a plugin runs under that uid; `adopted`, it did before this supervisor.
    pub(crate) fn begin(
        registry: &Arc<Registry>,
        plugin: &PluginId,
        uid: u32,
        generation: u64,
        adopted: bool,
    ) {
        let news = registry.denials.known().begin(plugin, uid, generation, adopted);
        if !news.is_empty() {
            let registry = Arc::clone(registry);
            tokio::spawn(async move {
                for news in news {
                    tell(&registry, news).await;
                }
            });
        }
    }

    /// The service refused a plugin what its grant lacks, which is in the audit already.
    pub(crate) fn refused(registry: &Registry, plugin: &PluginId, refused: Refused) {
        let new = match registry.denials.known().plugins.get_mut(plugin) {
            Some(ledger) => ledger.note(refused.clone()),
            None => return,
        };
        if new {
            announce(registry, plugin, &refused);
        }
    }

    /// The plugin is uninstalled.
    pub(crate) fn forget(&self, plugin: &PluginId) {
        self.known().plugins.remove(plugin);
    }

    /// What was refused to a plugin, the last first.
    pub(crate) fn of(&self, plugin: &PluginId) -> Vec<Counted> {
        self.known().plugins.get(plugin).map(Ledger::shown).unwrap_or_default()
    }

    /// Why denials of a plugin that runs cannot be told here, and what would make it so; `landlock_abi` is the
    /// kernel's, where it is known.
    pub(crate) fn unobservable(
        &self,
        plugin: &PluginId,
        landlock_abi: Option<u32>,
    ) -> Option<String> {
        if !self.observable {
            return Some(
                "what seccomp and Landlock deny is not observable here: the kernel's audit stream cannot be \
                 read; under systemd install bulkhead-audit.socket beside the unit, by hand start the \
                 service as root"
                    .to_owned(),
            );
        }
        let known = self.known();
        let ledger = known.plugins.get(plugin)?;
        if known.domains.knows(ledger.uid?) {
            return None;
        }
        let why = match landlock_abi {
            Some(abi @ ..LANDLOCK_TELLS) => format!(
                " here: the kernel's Landlock has ABI {abi} and tells of it from ABI {LANDLOCK_TELLS} on; \
                 boot kernel 6.15 or newer"
            ),
            _ if ledger.adopted => ": the plugin was started under an earlier supervisor; it is after \
                 its next start"
                .to_owned(),
            _ => " here: auditing is switched off; switch it on by an audit daemon or `auditctl -e 1`, \
                 and start the plugin again"
                .to_owned(),
        };
        Some(format!("what Landlock denies is not observable{why}"))
    }

    /// Adds to the end of a plugin what had been refused to it.
    pub(crate) async fn explain(&self, exited: &mut Exited) {
        let exit = &mut exited.exit.0;
        if !self.observable {
            return;
        }
        self.explain_call(exit, exited.uid).await;
        let denied = || self.known().denied_before(exited);
        let mut found = denied();
        let failed = matches!(exited.exit.0.cause, Cause::Code(1..) | Cause::Signal(_));
        if found.is_empty() && failed && self.known().domains.knows(exited.uid) {
            let until = Instant::now() + JUST_BEFORE;
            loop {
                let arrived = self.arrived.notified();
                found = denied();
                if !found.is_empty() || tokio::time::timeout_at(until, arrived).await.is_err() {
                    break;
                }
            }
        }
        if let Some(call) = exited.exit.0.denied_call.clone()
            && let Some(ledger) = self.known().plugins.get_mut(&exited.id)
        {
            ledger.note(Refused::new(&Refusal::Seccomp { call }, Settings::Manifest));
        }
        exited.exit.0.denied_accesses = found;
    }

    /// Which system call it was, where it was one.
    async fn explain_call(&self, exit: &mut Exit, uid: u32) {
        if exit.cause != Cause::Seccomp {
            return;
        }
        let found = async {
            loop {
                let arrived = self.arrived.notified();
                if let Some(call) = self.known().take_call(uid) {
                    return call;
                }
                arrived.await;
            }
        };
        exit.denied_call = tokio::time::timeout(LATENESS, found).await.ok();
    }
}

impl Known {
    fn add(&mut self, denial: Denial) -> Option<News> {
        let of_uid = self.plugins.iter_mut().find(|(_, ledger)| ledger.uid == Some(denial.uid));
        if let (Refusal::Landlock { .. }, Some((plugin, ledger))) = (&denial.refusal, of_uid) {
            let refused = Refused::new(&denial.refusal, Settings::Manifest);
            return ledger.note(refused.clone()).then(|| News { plugin: plugin.clone(), refused });
        }
        let kept = match &denial.refusal {
            Refusal::Seccomp { .. } => &mut self.calls,
            Refusal::Landlock { .. } => &mut self.early,
        };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(denial);
        None
    }

    fn begin(&mut self, id: &PluginId, uid: u32, generation: u64, adopted: bool) -> Vec<News> {
        // A uid that another plugin had is this one's now. Without privilege all have the same.
        for ledger in self.plugins.values_mut().filter(|ledger| ledger.uid == Some(uid)) {
            ledger.uid = None;
        }
        let ledger = self.plugins.entry(id.clone()).or_default();
        (ledger.uid, ledger.generation, ledger.adopted) = (Some(uid), generation, adopted);
        let (early, others) = self.early.drain(..).partition(|denial| denial.uid == uid);
        self.early = others;
        let early: VecDeque<Denial> = early;
        early.into_iter().filter_map(|denial| self.add(denial)).collect()
    }

    /// The last call that was refused to this uid; it and those before it are forgotten.
    fn take_call(&mut self, uid: u32) -> Option<String> {
        let call = |denial: &Denial| match &denial.refusal {
            Refusal::Seccomp { call } if denial.uid == uid => Some(call.clone()),
            _ => None,
        };
        let last = self.calls.iter().rev().find_map(call)?;
        self.calls.retain(|denial| call(denial).is_none());
        Some(last)
    }

    /// What Landlock refused to a start that has ended, the last first.
    fn denied_before(&self, exited: &Exited) -> Vec<String> {
        let Some(ledger) = self.plugins.get(&exited.id) else { return Vec::new() };
        let last = ledger.accesses(exited.generation).take(TOLD);
        last.map(Refused::sentence).collect()
    }
}

#[cfg(test)]
mod tests;
