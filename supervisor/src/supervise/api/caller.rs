//! Who is behind a connection, and what that allows.

use std::os::fd::BorrowedFd;

use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bulkhead_sandbox::descriptors;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::problem::Problem;
use crate::failure::{Code, Failure};
use crate::link::Settings;

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

    /// Root and the launcher's own user may do all.
    fn role(&self, uid: u32, groups: &[u32]) -> Role {
        let member = |gid: Option<u32>| gid.is_some_and(|gid| groups.contains(&gid));
        if uid == 0 || uid == self.launcher_uid || member(self.admin_gid) {
            Role::Admin
        } else if member(self.reader_gid) {
            Role::Reader
        } else {
            Role::None
        }
    }
}

pub(super) async fn require_reader(request: Request, next: Next) -> Response {
    require(Role::Reader, request, next).await
}

pub(super) async fn require_admin(request: Request, next: Next) -> Response {
    require(Role::Admin, request, next).await
}

async fn require(role: Role, request: Request, next: Next) -> Response {
    let caller = request
        .extensions()
        .get::<ConnectInfo<Caller>>()
        .map_or_else(Caller::nobody, |ConnectInfo(caller)| caller.clone());
    if caller.role >= role {
        return next.run(request).await;
    }
    tracing::warn!(
        uid = caller.uid,
        pid = caller.pid,
        path = request.uri().path(),
        "refused on the admin socket"
    );
    Problem::from(denied(&caller, role)).into_response()
}

/// Why a caller may not do what needs `role`.
fn denied(caller: &Caller, role: Role) -> Failure {
    let group = match role {
        Role::Reader => "reader or the admin",
        _ => "admin",
    };
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

/// The body of the refusal, for one who is not even let in.
pub(super) fn refusal(caller: &Caller, role: Role) -> serde_json::Value {
    super::problem::document(&denied(caller, role), axum::http::StatusCode::FORBIDDEN)
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
    fn a_connection_of_our_own_is_known() {
        use std::os::fd::AsFd;
        let (one, _two) = std::os::unix::net::UnixStream::pair().unwrap();
        let uid = nix::unistd::getuid().as_raw();
        let caller = Roles { launcher_uid: uid, ..ROLES }.caller(one.as_fd());
        assert_eq!((caller.uid, caller.role), (uid, Role::Admin));
        assert_eq!(caller.pid, std::process::id() as i32);
    }
}
