//! The admin API over a connection that stays open: for what must not pay for a process a request,
//! as each run of the command line does.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::description;
use crate::process::DEADLINE;

/// A connection: HTTP/1.1, one request at a time.
pub struct Admin {
    stream: BufReader<UnixStream>,
}

/// What was answered.
pub struct Reply {
    pub status: u16,
    pub media_type: String,
    pub body: Vec<u8>,
}

impl Admin {
    /// Connects to the socket of a service. What it then waits for, it waits for until the
    /// [`DEADLINE`] only.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Posts JSON. An error is one of the connection; whatever is answered is a reply.
    pub fn post(&mut self, path: &str, body: &str) -> io::Result<Reply> {
        let header = "content-type: application/json\r\n";
        self.ask_with("POST", path, header, body.as_bytes())
    }

    /// Any request, with a body of JSON that may be empty. The answer is held against the API's own
    /// description.
    pub fn ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<Reply> {
        let header = "content-type: application/json\r\n";
        let reply = self.ask_with(method, path, header, body.as_bytes())?;
        description::check(method, path, reply.status, &reply.media_type, &reply.body);
        Ok(reply)
    }

    /// Any request, with these lines of header besides; each ends in CR LF.
    pub fn ask_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: impl AsRef<[u8]>,
    ) -> io::Result<Reply> {
        let body = body.as_ref();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: bulkhead\r\n{headers}content-length: {length}\r\n\r\n"
        );
        self.stream.get_mut().write_all(&[request.as_bytes(), body].concat())?;
        self.reply()
    }

    /// Posts a form of files and values, each a part with a name, perhaps a file name, and content
    /// (RFC 7578).
    pub fn upload(
        &mut self,
        path: &str,
        parts: &[(&str, Option<&str>, &[u8])],
    ) -> io::Result<Reply> {
        const BOUNDARY: &str = "part-8d1f2a7c";
        let mut body = Vec::new();
        for (name, file, content) in parts {
            let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
            let head = format!(
                "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n"
            );
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        let header = format!("content-type: multipart/form-data; boundary={BOUNDARY}\r\n");
        let reply = self.ask_with("POST", path, &header, &body)?;
        description::check("POST", path, reply.status, &reply.media_type, &reply.body);
        Ok(reply)
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| bad(&line))?;
        let (mut length, mut media_type) = (None, String::new());
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok(),
                "content-type" => value.trim().clone_into(&mut media_type),
                _ => {}
            }
        }
        // A stream, such as the events, has none and is not for here.
        let mut body = vec![0; length.ok_or_else(|| bad("a reply without a length"))?];
        self.stream.read_exact(&mut body)?;
        Ok(Reply { status, media_type, body })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Reply {
    /// The body of a request that must have succeeded.
    ///
    /// # Panics
    /// Where it has not, with the error.
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert!((200..300).contains(&self.status), "answered {}: {text}", self.status);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text} is not JSON: {error}"))
    }
}
