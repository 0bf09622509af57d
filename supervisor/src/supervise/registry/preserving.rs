//! What a plugin leaves behind, and taking it up again.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Registry;
use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::link::{Reply, Request};
use crate::manifest::{FILE_NAME, Manifest};
use crate::supervise::archives::{ArchiveName, Archives, Entry, Listed, Record, damaged};
use crate::supervise::launcher_link::unexpected;
use crate::supervise::store::{Page, Part, PluginRow, Step};
use crate::supervise::timestamp;

/// Keys on their way from an archive to the store.
const ON_THE_WAY: usize = 64;
/// How long a helper may take to be gone after SIGKILL, and how often that is looked at.
const HELPER_GONE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Rows of the audit, or keys of the state, that are read from the store at a time.
const PAGE: usize = 500;
/// How many bytes keys and values take together at the most.
const PAGE_BYTES: usize = 4 << 20;

impl Registry {
    /// Writes the archive of a plugin that does not run. One that is there is done already.
    pub(super) async fn archive(&self, row: &PluginRow, name: &ArchiveName) -> Result<(), Failure> {
        let archives = self.archives.clone();
        if archives.has(name) {
            return Ok(());
        }
        let draft = archives.draft()?;
        let data = self.save_data(&row.id, &archives).await?;
        let state = self.save_state(&row.id, &archives).await?;
        let audit = self.save_audit(&row.id, &archives).await?;
        let usage = self.save_usage(&row.id, &archives).await?;
        let tree = self.settings.store.join(row.digest.to_string());
        let record = Record {
            format: 1,
            id: row.id.clone(),
            version: row.version.clone(),
            digest: row.digest,
            archived_at: timestamp(),
            installed_at: row.installed_at.clone(),
            // Without the manifest nobody can say what of it is secret.
            config: Manifest::load(&tree)
                .map_or_else(|_| json!({}), |it| it.config.without_secrets(&row.config)),
            granted: json!(row.granted),
            last_exit: row.last_exit.clone(),
            last_usage: row.last_usage.clone(),
            data: data.is_some(),
        };
        let logs = self.log_directory(&row.id);
        let named = name.clone();
        let bytes = aside(move || {
            let mut draft = draft;
            draft.record(&record)?;
            for (member, path) in [
                (FILE_NAME, tree.join(FILE_NAME)),
                ("logs/previous.jsonl", logs.join("previous.jsonl")),
                ("logs/current.jsonl", logs.join("current.jsonl")),
            ] {
                // One that is not there, or not to be read, is not kept.
                if let Ok(file) = File::open(path) {
                    draft.file(member, file)?;
                }
            }
            draft.file("audit.jsonl", audit)?;
            draft.file("usage.jsonl", usage)?;
            draft.file("state.jsonl", state)?;
            if let Some(data) = data {
                draft.file("data.tar", data)?;
            }
            draft.finish(&named)
        })
        .await?;
        let body = json!({ "version": row.version.to_string(), "archive": name, "bytes": bytes });
        self.events.emit("plugin:archived", &row.id, body);
        Ok(())
    }

    async fn save_data(&self, id: &PluginId, archives: &Archives) -> Result<Option<File>, Failure> {
        let file = archives.spool()?;
        let patience = Instant::now() + HELPER_GONE;
        loop {
            let request = Request::SaveData { id: id.clone(), limit: archives.limit() };
            match self.launcher.ask_with(request, Some(copy(&file)?.into())).await {
                Ok((Reply::Done, _)) => return Ok(Some(file)),
                Ok((other, _)) => return Err(unexpected(&other)),
                // A plugin whose storage is gone has no data.
                Err(failure) if failure.code == Code::NotFound => return Ok(None),
                // The helper of a supervisor that died is killed and not gone yet.
                Err(failure) if is_busy(&failure) && Instant::now() < patience => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn save_state(&self, id: &PluginId, archives: &Archives) -> Result<File, Failure> {
        let mut lines = Lines::new(archives.spool()?);
        let mut after = String::new();
        loop {
            let part = Part { prefix: String::new(), after, limit: PAGE, bytes: PAGE_BYTES };
            let Page { items, more } = self.store.state_part(id.clone(), part).await?;
            for (key, entry) in &items {
                lines.add(&Entry::new(key.clone(), &entry.value))?;
            }
            after = match items.last() {
                Some((key, _)) if more => key.clone(),
                _ => return lines.end(),
            };
        }
    }

    async fn save_audit(&self, id: &PluginId, archives: &Archives) -> Result<File, Failure> {
        let mut lines = Lines::new(archives.spool()?);
        let mut since = 0;
        loop {
            let rows = self.store.audit_since(since, Some(id.clone()), PAGE).await?;
            let Some(last) = rows.last() else { break };
            since = last.sequence;
            for row in rows {
                // The text is what was hashed: as text it can be hashed again.
                lines.add(&json!({
                    "sequence": row.sequence,
                    "content": row.content,
                    "contentHash": row.content_hash,
                    "previous": row.previous,
                    "hash": row.hash,
                }))?;
            }
        }
        lines.end()
    }

    async fn save_usage(&self, id: &PluginId, archives: &Archives) -> Result<File, Failure> {
        let mut lines = Lines::new(archives.spool()?);
        for step in Step::ALL {
            for used in self.store.usage(id.clone(), step, 0, usize::MAX >> 1).await? {
                lines.add(&json!({ "step": step.name(), "used": used }))?;
            }
        }
        lines.end()
    }

    /// Removes an archive that an uninstallation has written which is undone.
    pub(super) fn unarchive(&self, name: &ArchiveName) -> Result<(), Failure> {
        match self.archives.remove(name) {
            Err(failure) if failure.code != Code::NotFound => Err(failure),
            _ => Ok(()),
        }
    }

    /// The configuration that an installation begins with: that of the archive, if it is one of this
    /// plugin.
    pub(super) async fn first_config(
        &self,
        id: &PluginId,
        restore: Option<&ArchiveName>,
    ) -> Result<Value, Failure> {
        let Some(name) = restore else { return Ok(json!({})) };
        let (archives, named) = (self.archives.clone(), name.clone());
        let record = aside(move || Ok(archives.read(&named)?.record().clone())).await?;
        if record.id == *id {
            return Ok(record.config);
        }
        let message = format!("{name} is an archive of {}, not of {id}", record.id);
        Err(Failure::new(Code::InvalidRequest, message)
            .with("what", "restore")
            .with("expected", id)
            .with("found", record.id))
    }

    /// Gives a plugin that has just been installed the state and the data of an archive.
    pub(super) async fn take_up(&self, row: &PluginRow, name: &ArchiveName) -> Result<(), Failure> {
        let id = &row.id;
        let quota = self.manifest(row)?.limits.storage.bytes();
        let (sender, mut entries) = mpsc::channel::<Entry>(ON_THE_WAY);
        let (archives, named) = (self.archives.clone(), name.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let gone = || Failure::internal("nobody takes up an archive's state any more");
            let keep = |entry| sender.blocking_send(entry).map_err(|_| gone());
            archives.read(&named)?.take(archives.spool()?, archives.limit(), keep)
        });
        while let Some(entry) = entries.recv().await {
            let value = entry.value().ok_or_else(|| {
                damaged(name, &format!("the value of {:?} is not hexadecimal", entry.key))
            })?;
            self.store.set_state(id.clone(), entry.key, value, None, quota).await?;
        }
        let data = reading
            .await
            .unwrap_or_else(|error| Err(Failure::internal(format!("a reader ended: {error}"))))?;
        let Some(data) = data else { return Ok(()) };
        let request = Request::RestoreData { id: id.clone() };
        match self.launcher.ask_with(request, Some(data.into())).await? {
            (Reply::Done, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// The archives, and what they may take.
    pub(crate) async fn list_archives(&self) -> Result<(Vec<Listed>, u64), Failure> {
        let archives = self.archives.clone();
        let limit = archives.limit();
        Ok((aside(move || archives.list()).await?, limit))
    }

    pub(crate) fn remove_archive(&self, name: &ArchiveName) -> Result<(), Failure> {
        self.archives.remove(name)
    }
}

/// Whether something else is done with the plugin's data, which ends by itself.
fn is_busy(failure: &Failure) -> bool {
    failure.code == Code::Conflict && failure.details["state"] == "busy"
}

/// JSON, one document a line, on its way to an archive.
struct Lines(BufWriter<File>);

impl Lines {
    fn new(file: File) -> Self {
        Self(BufWriter::new(file))
    }

    fn add(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(value)
            .map_err(|error| Failure::internal(format!("a line cannot be kept: {error}")))?;
        writeln!(self.0, "{line}").map_err(|error| unkept(&error))
    }

    fn end(self) -> Result<File, Failure> {
        self.0.into_inner().map_err(|error| unkept(error.error()))
    }
}

fn unkept(error: &std::io::Error) -> Failure {
    Failure::new(Code::StorageFailed, format!("what goes to an archive cannot be kept: {error}"))
}

fn copy(file: &File) -> Result<File, Failure> {
    file.try_clone().map_err(|error| {
        Failure::new(Code::ResourceExhausted, format!("no descriptor is left: {error}"))
            .with("resource", "descriptors")
    })
}

/// Does what waits for the disk beside the loop.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Failure::internal(format!("a helper thread ended: {error}"))))
}
