//! The provider of appointments, as this plugin uses it.

use appointments::api::{Create, List, ListRequest, SERVICE};
use appointments::fhir::Appointment;
use bulkhead_plugin_sdk::{Host, Method, Result};

/// Appointments that one page asks for.
const PAGE: u32 = 500;

/// The service `appointments`, wherever it runs.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    host: Host,
}

impl Provider {
    /// Through this host.
    pub(crate) fn new(host: Host) -> Self {
        Self { host }
    }

    /// Calls one of its methods.
    ///
    /// # Errors
    /// What it answers; what [`Host::call`] fails with.
    pub(crate) async fn call<M: Method>(&self, request: &M::Request) -> Result<M::Reply> {
        self.host.call::<M>(SERVICE, request).await
    }

    /// Every appointment that `request` looks for, page after page, in the order of their starts.
    ///
    /// # Errors
    /// As [`Provider::call`].
    pub(crate) async fn list(&self, mut request: ListRequest) -> Result<Vec<Appointment>> {
        request.limit = Some(PAGE);
        let mut all = Vec::new();
        loop {
            let page = self.call::<List>(&request).await?;
            all.extend(page.appointments);
            match page.next {
                Some(next) => request.after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Books an appointment.
    ///
    /// # Errors
    /// As [`Provider::call`].
    pub(crate) async fn create(
        &self,
        appointment: Appointment,
        allow_conflicts: bool,
    ) -> Result<Appointment> {
        let request = appointments::api::CreateRequest { appointment, allow_conflicts };
        self.call::<Create>(&request).await
    }
}
