//! One line of the table of routes: what is asked for, who may, and what answers.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::caller::{Role, require_admin, require_reader};
use crate::supervise::audit::Audit;
use crate::supervise::registry::Registry;

/// A method of a path.
pub(super) struct Route {
    #[cfg_attr(not(test), expect(dead_code, reason = "the description is held against it"))]
    pub(super) method: Method,
    /// As axum writes it: `{id}` is a segment, `{*method}` the rest of the path.
    pub(super) path: &'static str,
    /// Whom it is for.
    pub(super) role: Role,
    handler: MethodRouter<Arc<Registry>>,
}

impl Route {
    /// What a reader may ask for.
    pub(super) fn reading<T: 'static>(
        method: Method,
        path: &'static str,
        handler: impl Handler<T, Arc<Registry>>,
    ) -> Self {
        let handler = on(filter(&method), handler);
        Self { method, path, role: Role::Reader, handler }
    }

    /// What only an admin may ask for.
    pub(super) fn ruling<T: 'static>(
        method: Method,
        path: &'static str,
        handler: impl Handler<T, Arc<Registry>>,
    ) -> Self {
        let handler = on(filter(&method), handler);
        Self { method, path, role: Role::Admin, handler }
    }

    /// Adds it to the others, behind the question whether the caller has its role.
    pub(super) fn join(self, router: Router<Arc<Registry>>, audit: Audit) -> Router<Arc<Registry>> {
        let handler = match self.role {
            Role::Admin => self.handler.route_layer(from_fn_with_state(audit, require_admin)),
            Role::Reader | Role::None => {
                self.handler.route_layer(from_fn_with_state(audit, require_reader))
            }
        };
        router.route(self.path, handler)
    }
}

fn filter(method: &Method) -> MethodFilter {
    MethodFilter::try_from(method.clone()).expect("the table has methods of RFC 9110 only")
}
