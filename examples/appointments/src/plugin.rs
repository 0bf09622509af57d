//! The plugin: routes and configuration.

#![allow(clippy::unused_async)] // A handler is async, whether it waits or not.

use std::rc::Rc;

use bulkhead_plugin_sdk::{About, Error, Host, Plugin, Result, Router, Streams, about, code};
use serde::Deserialize;

use crate::api::{
    Cancel, CancelRequest, Create, CreateRequest, Expire, ExpireReply, Get, GetRequest, Import,
    ImportReport, ImportRequest, List, ListReply, ListRequest, Reschedule, RescheduleRequest,
    Stats, StatsReply, StatsRequest,
};
use crate::batch::Batches;
use crate::fhir::Appointment;
use crate::store::Store;

/// What an operator can set.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Minutes that an encounter without a length of its own takes.
    #[serde(default = "an_hour")]
    pub default_duration: u32,
}

fn an_hour() -> u32 {
    60
}

/// The longest `defaultDuration`: a day.
const LONGEST: u32 = 24 * 60;

/// Keeps a clinic's appointments.
#[derive(Debug)]
pub struct Appointments {
    store: Rc<Store>,
    host: Host,
}

impl Plugin for Appointments {
    const ABOUT: About = about!();
    type Config = Config;

    fn routes() -> Router<Self> {
        Router::new()
            .on_stream::<Import>(Self::import)
            .on::<List>(Self::list)
            .on::<Get>(Self::get)
            .on::<Create>(Self::create)
            .on::<Cancel>(Self::cancel)
            .on::<Reschedule>(Self::reschedule)
            .on::<Expire>(Self::expire)
            .on::<Stats>(Self::stats)
    }

    async fn init(config: Config, host: Host) -> Result<Self> {
        let minutes = config.default_duration;
        if !(1..=LONGEST).contains(&minutes) {
            let message = format!("defaultDuration: {minutes} is not 1 to {LONGEST} minutes");
            return Err(Error::new(code::CONFIG_INVALID, message).with_details(
                &serde_json::json!({ "path": "defaultDuration", "value": minutes }),
            ));
        }
        let store = Rc::new(Store::load(host.clone(), minutes).await?);
        host.log().with("appointments", store.calendar().len()).info("loaded");
        Ok(Self { store, host })
    }
}

// What changes something runs shielded: if the caller gives up half-way, index and state still end up the same.
impl Appointments {
    /// The request's own lines, then those of the upload, batch by batch: each is imported as a request of its own
    /// would be, so that a stream which breaks off, or has a bad line, keeps the batches before.
    async fn import(&self, request: ImportRequest, streams: Streams) -> Result<ImportReport> {
        let mut batches = Batches::new(&request);
        let mut total = ImportReport::default();
        if !request.ndjson.is_empty() || streams.upload.is_none() {
            total = self.import_batch(request).await?;
        }
        if let Some(mut upload) = streams.upload {
            while let Some(piece) = upload.read().await? {
                if let Some(batch) = batches.push(&piece)? {
                    total.add(self.import_batch(batch).await?);
                }
            }
            if let Some(batch) = batches.rest()? {
                total.add(self.import_batch(batch).await?);
            }
        }
        Ok(total)
    }

    async fn import_batch(&self, request: ImportRequest) -> Result<ImportReport> {
        let store = self.store.clone();
        self.host.shielded(async move { store.import(&request).await }).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListReply> {
        self.store.list(request)
    }

    async fn get(&self, request: GetRequest) -> Result<Appointment> {
        Ok((*self.store.get(&request.id)?).clone())
    }

    async fn create(&self, request: CreateRequest) -> Result<Appointment> {
        let store = self.store.clone();
        self.host.shielded(async move { store.create(request).await }).await
    }

    async fn cancel(&self, request: CancelRequest) -> Result<Appointment> {
        let store = self.store.clone();
        self.host.shielded(async move { store.cancel(request).await }).await
    }

    async fn reschedule(&self, request: RescheduleRequest) -> Result<Appointment> {
        let store = self.store.clone();
        self.host.shielded(async move { store.reschedule(request).await }).await
    }

    async fn expire(&self, (): ()) -> Result<ExpireReply> {
        let store = self.store.clone();
        let now = jiff::Timestamp::now();
        let expired = self.host.shielded(async move { store.expire(now).await }).await?;
        Ok(ExpireReply { expired })
    }

    async fn stats(&self, _: StatsRequest) -> Result<StatsReply> {
        Ok(self.store.stats())
    }
}
