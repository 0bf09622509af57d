//! The body of an installation: JSON that names a directory, or a form with a package.
//!
//! A package is written to a file without a name while it arrives, on the file system where the
//! launcher takes it, so that neither its size nor a client that goes away leaves anything behind.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
use axum::http::{StatusCode, header};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use super::MAX_BODY;
use super::install::InstallBody;
use super::problem::{Problem, length, too_long};
use super::request::{body, json};
use crate::failure::{Code, Failure};
use crate::supervise::registry::{InstallOptions, Registry, Source};
use crate::trust::{MAX_PACKAGE, MAX_SIGNATURE, Refusal, too_large};

/// Packages that may arrive at the same time: each takes disk until it is installed.
const MAX_UPLOADS: usize = 4;
static UPLOADS: Semaphore = Semaphore::const_new(MAX_UPLOADS);
/// The options, and what is between the parts.
const MAX_OPTIONS: usize = 64 << 10;
/// The longest form.
const MAX_FORM: usize = MAX_PACKAGE as usize + MAX_SIGNATURE + 2 * MAX_OPTIONS;
/// The longest path in bytes (PATH_MAX, without the NUL).
const MAX_PATH: usize = 4095;
/// How long a client may send nothing in the midst of a package.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pieces that may wait for the disk.
const WAITING: usize = 4;

/// What a client wants installed.
pub(super) struct Upload {
    pub(super) source: Source,
    pub(super) options: InstallOptions,
    /// Held until it is installed or refused.
    pub(super) place: Option<SemaphorePermit<'static>>,
}

impl FromRequest<Arc<Registry>> for Upload {
    type Rejection = Problem;

    async fn from_request(mut request: Request, registry: &Arc<Registry>) -> Result<Self, Problem> {
        let length = length(request.headers());
        let kind = request.headers().get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"multipart/form-data")) {
            DefaultBodyLimit::max(MAX_FORM).apply(&mut request);
            let form = Multipart::from_request(request, registry)
                .await
                .map_err(|error| refused(error.status(), &error.body_text(), MAX_FORM, length))?;
            return Ok(package(form, &registry.settings.state).await?);
        }
        let bytes = Bytes::from_request(request, registry)
            .await
            .map_err(|error| refused(error.status(), &error.body_text(), MAX_BODY, length))?;
        Ok(directory(&bytes)?)
    }
}

fn directory(bytes: &Bytes) -> Result<Upload, Failure> {
    let InstallBody { directory, options } = body(bytes)?;
    let directory = directory.ok_or_else(|| {
        let message = "the body must name the \"directory\" to install from, or be a form with a \
                       package";
        Failure::new(Code::InvalidRequest, message)
    })?;
    if !directory.is_absolute() {
        let shown = directory.display();
        let message = format!("directory: {shown} is not an absolute path");
        return Err(Failure::new(Code::InvalidRequest, message).with("path", directory));
    }
    // No longer one can be opened, nor told to the launcher.
    if directory.as_os_str().len() > MAX_PATH {
        let message = format!(
            "directory: a path of {} bytes; at most {MAX_PATH} can be opened",
            directory.as_os_str().len()
        );
        return Err(Failure::new(Code::InvalidRequest, message)
            .with("limit", MAX_PATH)
            .with("used", directory.as_os_str().len()));
    }
    Ok(Upload { source: Source::Directory(directory), options, place: None })
}

async fn package(mut form: Multipart, state: &Path) -> Result<Upload, Failure> {
    let place = UPLOADS.try_acquire().map_err(|_| {
        let message = format!("{MAX_UPLOADS} packages are arriving; try again later");
        Failure::new(Code::ResourceExhausted, message)
            .with("resource", "uploads")
            .with("limit", MAX_UPLOADS)
            .with("used", MAX_UPLOADS)
    })?;
    let (mut file, mut name, mut signature, mut options) = (None, None, None, None);
    while let Some(mut part) = in_time(form.next_field()).await? {
        let what = part.name().unwrap_or_default().to_owned();
        let twice = match what.as_str() {
            "package" => {
                name = part.file_name().map(str::to_owned);
                file.replace(spool(&mut part, state).await?).is_some()
            }
            "signature" => {
                let bytes = collect(&mut part, MAX_SIGNATURE).await?;
                let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
                let text = text.ok_or_else(|| Refusal::Malformed.of_package())?;
                signature.replace(text).is_some()
            }
            "options" => {
                let bytes = collect(&mut part, MAX_OPTIONS).await?.ok_or_else(|| {
                    let message = format!("the part `options` is longer than {MAX_OPTIONS} bytes");
                    Failure::new(Code::ResourceExhausted, message).with("limit", MAX_OPTIONS)
                })?;
                let parsed: InstallOptions = json(&bytes, "the part `options`")?;
                options.replace(parsed).is_some()
            }
            other => {
                let message =
                    format!("the form has a part {other:?}; it has package, signature, options");
                return Err(Failure::new(Code::InvalidRequest, message).with("part", other));
            }
        };
        if twice {
            let message = format!("the form has two parts `{what}`");
            return Err(Failure::new(Code::InvalidRequest, message).with("part", what));
        }
    }
    let options = options.unwrap_or_default();
    let file = file.ok_or_else(|| {
        Failure::new(Code::InvalidRequest, "the form has no part `package`").with("part", "package")
    })?;
    let source = Source::Package { file, name, signature };
    Ok(Upload { source, options, place: Some(place) })
}

/// A part that is kept in memory; `None` if it is longer than that.
async fn collect(part: &mut Field<'_>, most: usize) -> Result<Option<Vec<u8>>, Failure> {
    let mut bytes = Vec::new();
    while let Some(piece) = in_time(part.chunk()).await? {
        if bytes.len() + piece.len() > most {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Some(bytes))
}

/// Writes a part to a file, as it arrives. The disk may be slow, so that is a thread's work.
async fn spool(part: &mut Field<'_>, directory: &Path) -> Result<File, Failure> {
    let unwritable = |error: std::io::Error| {
        let message = format!("a package cannot be kept in {}: {error}", directory.display());
        Failure::new(Code::StorageFailed, message).with("path", directory)
    };
    let mut file = tempfile::tempfile_in(directory).map_err(unwritable)?;
    let (sender, mut pieces) = mpsc::channel::<Bytes>(WAITING);
    let writer = tokio::task::spawn_blocking(move || {
        while let Some(piece) = pieces.blocking_recv() {
            file.write_all(&piece)?;
        }
        Ok(file)
    });
    let mut size = 0;
    while let Some(piece) = in_time(part.chunk()).await? {
        size += piece.len() as u64;
        if size > MAX_PACKAGE {
            return Err(too_large(size));
        }
        if sender.send(piece).await.is_err() {
            // The writer has failed and says why below.
            break;
        }
    }
    drop(sender);
    writer
        .await
        .map_err(|error| Failure::internal(format!("a package was not written: {error}")))?
        .map_err(unwritable)
}

/// A client that goes silent does not keep its place.
async fn in_time<T>(piece: impl Future<Output = Result<T, MultipartError>>) -> Result<T, Failure> {
    if let Ok(arrived) = tokio::time::timeout(PATIENCE, piece).await {
        return arrived.map_err(|error| broken(&error));
    }
    let message = format!("nothing of the package came for {PATIENCE:?}");
    Err(Failure::new(Code::Timeout, message)
        .with("stage", "upload")
        .with("budgetMs", PATIENCE.as_millis() as u64))
}

fn broken(error: &MultipartError) -> Failure {
    refused(error.status(), &error.body_text(), MAX_FORM, None)
}

fn refused(status: StatusCode, why: &str, limit: usize, length: Option<u64>) -> Failure {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return too_long(limit, length);
    }
    let message = format!(
        "the request's body: {why}; send JSON that names a directory, or a form with a package"
    );
    Failure::new(Code::InvalidRequest, message)
}
