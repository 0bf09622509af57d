//! Frames on a blocking socket, right ones and wrong ones.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use bulkhead_ipc_protocol::frame::{FRAGMENT, Lengths, MAX_BODY, PREFIX};
use bulkhead_ipc_protocol::message::{Header, Outcome};
use bulkhead_ipc_protocol::{CallError, Hello, Payload, codec, host};

/// One end of a session.
pub(crate) struct Wire {
    pub(crate) stream: UnixStream,
}

/// A frame as it came.
pub(crate) struct Frame {
    pub(crate) header: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Wire {
    /// The next frame; `None` at the end of the session.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Frame>> {
        let mut prefix = [0; PREFIX];
        match self.stream.read_exact(&mut prefix) {
            Ok(()) => {}
            Err(error) if ended(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        let lengths = Lengths::parse(&prefix, MAX_BODY)
            .map_err(io::Error::other)?
            .ok_or_else(|| io::Error::other("the whole prefix was given"))?;
        let mut frame = Frame { header: vec![0; lengths.header], body: vec![0; lengths.body] };
        self.stream.read_exact(&mut frame.header)?;
        self.stream.read_exact(&mut frame.body)?;
        Ok(Some(frame))
    }

    /// The rest of a body that began in another frame.
    pub(crate) fn receive_rest(&mut self, body: &mut Vec<u8>, rest: u32) -> io::Result<()> {
        let whole = body.len() + rest as usize;
        while body.len() < whole {
            let Some(frame) = self.receive()? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            match codec::decode(&frame.header).map_err(io::Error::other)? {
                Header::More => body.extend_from_slice(&frame.body),
                Header::Ping { token } => self.send(&Header::Pong { token }, &[])?,
                _ => {}
            }
        }
        Ok(())
    }

    /// A message with all of its body in one frame.
    pub(crate) fn send(&mut self, header: &Header<'_>, body: &[u8]) -> io::Result<()> {
        self.frame(&codec::encode(header), body)
    }

    /// Any header, as bytes.
    pub(crate) fn frame(&mut self, header: &[u8], body: &[u8]) -> io::Result<()> {
        let lengths = Lengths { header: header.len(), body: body.len() };
        let mut bytes = lengths.encode().to_vec();
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(body);
        self.bytes(&bytes)
    }

    /// Anything at all.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(crate) fn hello(&mut self, hello: &Hello) -> io::Result<()> {
        self.frame(&hello.encode().map_err(io::Error::other)?, &[])
    }

    /// Answers call `id` with a result.
    pub(crate) fn reply(&mut self, id: u64, payload: &Payload) -> io::Result<()> {
        let outcome = Outcome::Done(payload.encoding);
        let (first, rest) = payload.body.split_at(payload.body.len().min(FRAGMENT));
        self.send(&Header::Reply { id, outcome, rest: rest.len() as u32 }, first)?;
        for piece in rest.chunks(FRAGMENT) {
            self.send(&Header::More, piece)?;
        }
        Ok(())
    }

    /// Answers call `id` with an error.
    pub(crate) fn fail(&mut self, id: u64, error: &CallError) -> io::Result<()> {
        self.send(&Header::Reply { id, outcome: Outcome::Failed, rest: 0 }, &codec::encode(error))
    }

    /// Makes a call of ours, without waiting for its reply.
    pub(crate) fn call(&mut self, id: u64, method: &str) -> io::Result<()> {
        self.ask(id, method, &Payload::json_bytes(b"null".to_vec()))
    }

    /// The same, for all keys of our state.
    pub(crate) fn list(&mut self, id: u64) -> io::Result<()> {
        let all = host::StateList { prefix: String::new() };
        self.ask(id, host::STATE_LIST, &Payload::bincode(&all).map_err(io::Error::other)?)
    }

    fn ask(&mut self, id: u64, method: &str, argument: &Payload) -> io::Result<()> {
        let call = Header::Call {
            id,
            method: method.into(),
            encoding: argument.encoding,
            rest: 0,
            timeout: None,
            trace: None,
            on_behalf_of: None,
            streams: bulkhead_ipc_protocol::message::Streams::NONE,
        };
        self.send(&call, &argument.body)
    }
}

/// Whether the other end has gone, in whichever way.
pub(crate) fn ended(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | BrokenPipe | ConnectionReset)
}
