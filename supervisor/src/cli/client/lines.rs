//! Streams of the admin API: lines of JSON, and server-sent events.

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes};

/// A longer line ends the stream with an error: the service never writes one.
const MAX_LINE: usize = 8 * 1024 * 1024;

/// Cuts a body into lines.
pub(in crate::cli) struct Lines<B> {
    body: B,
    /// What has arrived and is not yet cut; the first `scanned` bytes hold no line break.
    buffer: Vec<u8>,
    scanned: usize,
    ended: bool,
}

#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum StreamError {
    #[error("the service broke the stream off: {0}")]
    Broken(String),
    #[error("the service sent a line of more than {MAX_LINE} bytes")]
    TooLong,
}

impl<B> Lines<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    pub(in crate::cli) fn new(body: B) -> Self {
        Self { body, buffer: Vec::new(), scanned: 0, ended: false }
    }

    /// The next line without its end; `None` at the end of the stream. A last line that has no end
    /// is a line.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<String>, StreamError> {
        loop {
            if let Some(at) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.scanned + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                self.scanned = 0;
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            self.scanned = self.buffer.len();
            if self.scanned > MAX_LINE {
                return Err(StreamError::TooLong);
            }
            if self.ended {
                self.scanned = 0;
                let line = std::mem::take(&mut self.buffer);
                return Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.buffer.extend_from_slice(bytes);
                    }
                }
                Some(Err(error)) => return Err(StreamError::Broken(error.to_string())),
                None => self.ended = true,
            }
        }
    }
}

/// One server-sent event (HTML Standard, section 9.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct SseEvent {
    pub(in crate::cli) id: Option<String>,
    pub(in crate::cli) event: Option<String>,
    pub(in crate::cli) data: String,
}

/// Reads server-sent events.
pub(in crate::cli) struct SseEvents<B>(Lines<B>);

impl<B> SseEvents<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    pub(in crate::cli) fn new(body: B) -> Self {
        Self(Lines::new(body))
    }

    /// The next event that has data; `None` at the end of the stream. An event that the end of the
    /// stream has cut off is dropped, as the standard has it.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<SseEvent>, StreamError> {
        let mut event = SseEvent::default();
        let mut has_data = false;
        while let Some(line) = self.0.next().await? {
            if line.is_empty() {
                if has_data {
                    return Ok(Some(event));
                }
                event = SseEvent::default();
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => event.id = Some(value.to_owned()),
                "event" => event.event = Some(value.to_owned()),
                "data" => {
                    if has_data {
                        event.data.push('\n');
                    }
                    event.data.push_str(value);
                    has_data = true;
                }
                // A comment (empty name, a keep-alive) or a field that is not known.
                _ => {}
            }
        }
        Ok(None)
    }
}
