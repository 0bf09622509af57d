//! Who is behind a connection, and what that allows.

use std::os::fd::BorrowedFd;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bulkhead_sandbox::descriptors;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::Serialize;
use serde_json::{Value, json};

use super::problem::Problem;
use crate::failure::{Code, Failure};
use crate::link::Settings;
use crate::supervise::audit::{Action, Audit, Entry, Outcome};
use crate::supervise::principal::Principal;

/// Why one who only reads is not told what a plugin wrote last.
const WITHHELD: &str = "what a plugin writes is for members of admin_group";
/// How many characters of a refused path the audit has.
const MAX_SHOWN: usize = 200;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    None,
    Reader,
    Admin,
}

/// The peer of a connection, as the kernel vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) uid: u32,
    pub(super) pid: i32,
    pub(super) role: Role,
}

impl Caller {
    pub(super) fn nobody() -> Self {
        Self { uid: u32::MAX, pid: 0, role: Role::None }
    }
}

/// What somebody is told: all of it, or a part.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Shown<T> {
    All(T),
    Part(Value),
}

impl Role {
    /// As this role may see it: what a plugin wrote is for those who may read its log.
    pub(super) fn shown<T: Serialize>(self, told: T) -> Shown<T> {
        if self == Self::Admin {
            return Shown::All(told);
        }
        let mut told = json!(told);
        withhold(&mut told);
        Shown::Part(told)
    }
}

fn withhold(told: &mut Value) {
    match told {
        Value::Object(map) => {
            if map.remove("lastLogLines").is_some() {
                map.insert("lastLogLinesWithheld".to_owned(), WITHHELD.into());
            }
            map.values_mut().for_each(withhold);
        }
        Value::Array(all) => all.iter_mut().for_each(withhold),
        _ => {}
    }
}

/// Which users and groups have which role.
#[derive(Clone, Debug)]
pub(super) struct Roles {
    launcher_uid: u32,
    admin_gid: Option<u32>,
    reader_gid: Option<u32>,
}

impl Roles {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            launcher_uid: settings.launcher_uid,
            admin_gid: settings.admin_gid,
            reader_gid: settings.reader_gid,
        }
    }

    /// Asks the kernel. A peer that it tells nothing about has no role.
    pub(super) fn caller(&self, socket: BorrowedFd<'_>) -> Caller {
        let Ok(peer) = getsockopt(&socket, PeerCredentials) else { return Caller::nobody() };
        let mut groups = descriptors::peer_groups(socket).unwrap_or_default();
        groups.push(peer.gid());
        Caller { uid: peer.uid(), pid: peer.pid(), role: self.role(peer.uid(), &groups) }
    }

    /// Whether it is root, or the launcher's own user.
    pub(super) fn is_root(&self, uid: u32) -> bool {
        uid == 0 || uid == self.launcher_uid
    }

    /// Root and the launcher's own user may do all.
    fn role(&self, uid: u32, groups: &[u32]) -> Role {
        let member = |gid: Option<u32>| gid.is_some_and(|gid| groups.contains(&gid));
        if self.is_root(uid) || member(self.admin_gid) {
            Role::Admin
        } else if member(self.reader_gid) {
            Role::Reader
        } else {
            Role::None
        }
    }
}

pub(super) async fn require_reader(
    State(audit): State<Audit>,
    request: Request,
    next: Next,
) -> Response {
    require(Role::Reader, &audit, request, next).await
}

pub(super) async fn require_admin(
    State(audit): State<Audit>,
    request: Request,
    next: Next,
) -> Response {
    require(Role::Admin, &audit, request, next).await
}

async fn require(role: Role, audit: &Audit, request: Request, next: Next) -> Response {
    let caller = request
        .extensions()
        .get::<ConnectInfo<Caller>>()
        .map_or_else(Caller::nobody, |ConnectInfo(caller)| caller.clone());
    if caller.role >= role {
        return next.run(request).await;
    }
    let (method, path) = (request.method().as_str(), request.uri().path());
    tracing::warn!(uid = caller.uid, pid = caller.pid, path, "refused on the admin socket");
    let entry = refused(&caller, role).with("method", method).with("path", first(path));
    audit.refused(entry).await;
    Problem::from(denied(&caller, role)).into_response()
}

/// The audit's entry for a refusal.
pub(super) fn refused(caller: &Caller, role: Role) -> Entry {
    let outcome = Outcome::Failed(Code::PermissionDenied);
    Entry::new(Principal::user(caller.uid, None), Action::Denied, outcome)
        .with("role", group(role))
        .with("pid", caller.pid)
}

/// The beginning of a path that somebody without a role has chosen.
fn first(path: &str) -> String {
    path.chars().take(MAX_SHOWN).collect()
}

/// The groups whose members have a role.
fn group(role: Role) -> &'static str {
    match role {
        Role::Reader => "reader or the admin",
        _ => "admin",
    }
}

/// Why a caller may not do what needs `role`.
pub(super) fn denied(caller: &Caller, role: Role) -> Failure {
    let group = group(role);
    Failure::new(
        Code::PermissionDenied,
        format!(
            "user {} may not do this; a member of the {group} group may, see admin_group and \
             reader_group in bulkhead.toml",
            caller.uid
        ),
    )
    .with("role", group)
    .with("uid", caller.uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: Roles = Roles { launcher_uid: 5, admin_gid: Some(100), reader_gid: Some(200) };

    #[test]
    fn the_kernels_word_decides() {
        assert_eq!(ROLES.role(0, &[]), Role::Admin);
        assert_eq!(ROLES.role(5, &[]), Role::Admin);
        assert_eq!(ROLES.role(7, &[1, 100]), Role::Admin);
        assert_eq!(ROLES.role(7, &[200]), Role::Reader);
        assert_eq!(ROLES.role(7, &[200, 100]), Role::Admin);
        assert_eq!(ROLES.role(7, &[7]), Role::None);
        let none = Roles { admin_gid: None, reader_gid: None, ..ROLES };
        assert_eq!(none.role(7, &[0]), Role::None);
    }

    #[test]
    fn who_only_reads_is_not_told_what_a_plugin_wrote() {
        let told = json!({ "lastExit": { "lastLogLines": ["patient 17"], "cause": "signal" },
            "all": [{ "error": { "details": { "lastLogLines": [] } } }] });
        assert_eq!(json!(Role::Admin.shown(&told)), told);
        let shown = json!({ "lastExit": { "lastLogLinesWithheld": WITHHELD, "cause": "signal" },
            "all": [{ "error": { "details": { "lastLogLinesWithheld": WITHHELD } } }] });
        assert_eq!(json!(Role::Reader.shown(&told)), shown);
    }

    #[test]
    fn a_connection_of_our_own_is_known() {
        use std::os::fd::AsFd;
        let (one, _two) = std::os::unix::net::UnixStream::pair().unwrap();
        let uid = nix::unistd::getuid().as_raw();
        let caller = Roles { launcher_uid: uid, ..ROLES }.caller(one.as_fd());
        assert_eq!((caller.uid, caller.role), (uid, Role::Admin));
        assert_eq!(caller.pid, std::process::id() as i32);
    }
}
