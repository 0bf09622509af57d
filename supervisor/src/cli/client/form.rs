//! A form with files (multipart/form-data, RFC 7578), sent a piece at a time.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};

use http_body_util::StreamBody;
use hyper::body::{Body, Bytes, Frame};

/// What one piece of a file is at most.
const PIECE: usize = 64 << 10;

/// The parts, in order.
pub(in crate::cli) struct Form {
    boundary: String,
    parts: VecDeque<Part>,
}

enum Part {
    Text(Vec<u8>),
    File(File),
}

impl Form {
    pub(in crate::cli) fn new() -> Self {
        // Long and random, so that no part has it in it.
        let boundary = format!("bulkhead-{:032x}", random());
        Self { boundary, parts: VecDeque::new() }
    }

    pub(in crate::cli) fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    pub(in crate::cli) fn text(mut self, name: &str, kind: &str, text: &str) -> Self {
        self.head(&format!("name=\"{name}\""), kind);
        self.parts.push_back(Part::Text(text.into()));
        self.end()
    }

    /// A file under that name, from where it stands to its end.
    pub(in crate::cli) fn file(mut self, name: &str, file_name: &str, file: File) -> Self {
        let file_name = quoted(file_name);
        self.head(
            &format!("name=\"{name}\"; filename=\"{file_name}\""),
            "application/octet-stream",
        );
        self.parts.push_back(Part::File(file));
        self.end()
    }

    fn head(&mut self, disposition: &str, kind: &str) {
        let boundary = &self.boundary;
        let head = format!(
            "--{boundary}\r\ncontent-disposition: form-data; {disposition}\r\n\
             content-type: {kind}\r\n\r\n"
        );
        self.parts.push_back(Part::Text(head.into_bytes()));
    }

    fn end(mut self) -> Self {
        self.parts.push_back(Part::Text(b"\r\n".to_vec()));
        self
    }

    /// The body; `sent` hears of each piece of a file, by its length.
    pub(in crate::cli) fn body(
        mut self,
        mut sent: impl FnMut(usize) + Send + 'static,
    ) -> impl Body<Data = Bytes, Error = io::Error> + Send + 'static {
        self.parts.push_back(Part::Text(format!("--{}--\r\n", self.boundary).into_bytes()));
        let mut parts = self.parts;
        let pieces = std::iter::from_fn(move || {
            loop {
                match parts.front_mut()? {
                    Part::Text(text) => {
                        let text = std::mem::take(text);
                        parts.pop_front();
                        return Some(Ok(text));
                    }
                    Part::File(file) => match piece(file) {
                        Ok(piece) if piece.is_empty() => drop(parts.pop_front()),
                        Ok(piece) => {
                            sent(piece.len());
                            return Some(Ok(piece));
                        }
                        Err(error) => {
                            parts.clear();
                            return Some(Err(error));
                        }
                    },
                }
            }
        });
        StreamBody::new(tokio_stream::iter(
            pieces.map(|piece| piece.map(|bytes| Frame::data(Bytes::from(bytes)))),
        ))
    }
}

fn piece(file: &mut File) -> io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(PIECE);
    file.take(PIECE as u64).read_to_end(&mut piece)?;
    Ok(piece)
}

/// As browsers write a file's name (RFC 7578, section 4.2).
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace(['\r', '\n'], " ")
}

/// The kernel's: only to be unlike what is in a file.
fn random() -> u128 {
    let mut bytes = [0; 16];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    match read {
        Ok(()) => u128::from_ne_bytes(bytes),
        Err(_) => u128::from(std::process::id()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};
    use std::sync::{Arc, Mutex};

    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn a_form_is_its_parts_between_boundaries() {
        let mut file = tempfile::tempfile().unwrap();
        let content = vec![7; PIECE + 1];
        file.write_all(&content).unwrap();
        file.rewind().unwrap();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&sent);
        let form = Form::new().text("options", "application/json", "{}").file("f", "a\"b", file);
        let boundary = form.content_type().split_once("boundary=").unwrap().1.to_owned();
        let body = form.body(move |length| heard.lock().unwrap().push(length));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(body.collect()).unwrap().to_bytes();
        let head = format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"options\"\r\n\
             content-type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\n\
             content-disposition: form-data; name=\"f\"; filename=\"a%22b\"\r\n\
             content-type: application/octet-stream\r\n\r\n"
        );
        let end = format!("\r\n--{boundary}--\r\n");
        let expected = [head.as_bytes(), &content, end.as_bytes()];
        assert!(body == expected.concat(), "{:?}", String::from_utf8_lossy(&body[..400]));
        assert_eq!(*sent.lock().unwrap(), [PIECE, 1]);
    }
}
