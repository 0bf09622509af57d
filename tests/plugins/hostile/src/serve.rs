//! The well-behaved part: a session from its `Hello` to its `Goodbye`, with the moments at which a mode acts.

use std::io;
use std::process::ExitCode;

use bulkhead_ipc_protocol::lifecycle::{HEALTH, INIT, InitReply, InitRequest};
use bulkhead_ipc_protocol::message::{GoodbyeCause, Header};
use bulkhead_ipc_protocol::{CallError, Encoding, Hello, Payload, codec};
use semver::Version;

use crate::bootstrap::Bootstrap;
use crate::modes::{Act, Mode, Moment, Next};
use crate::wire::{Frame, Wire, ended};

/// The plugin while it lives.
pub(crate) struct Plugin {
    pub(crate) wire: Wire,
    /// The mode's number.
    pub(crate) number: u64,
    /// Calls of other methods than the host's own that were answered.
    pub(crate) answered: u64,
    /// Calls that were left unanswered.
    pub(crate) refused: u64,
    /// Health checks that were answered well.
    pub(crate) healthy: u64,
    /// The configuration, as `init` gave it.
    pub(crate) config: String,
    mode: &'static Mode,
    /// `init` was answered, perhaps in an earlier session.
    pub(crate) initialized: bool,
}

/// Lives until its `Goodbye`, or until there are no more sessions.
pub(crate) fn run(mode: &'static Mode, number: u64) -> ExitCode {
    if let Act::Start(act) = mode.act {
        act(number);
    }
    let mut bootstrap = match Bootstrap::take() {
        Ok(bootstrap) => bootstrap,
        Err(error) => {
            eprintln!("descriptor 3 is no bootstrap socket: {error}");
            return ExitCode::from(3);
        }
    };
    let mut state = None;
    loop {
        let stream = match bootstrap.next() {
            Ok(Some(stream)) => stream,
            Ok(None) => return ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("no session: {error}");
                return ExitCode::from(3);
            }
        };
        let wire = Wire { stream };
        let mut plugin = match state.take() {
            None => Plugin {
                wire,
                number,
                answered: 0,
                refused: 0,
                healthy: 0,
                config: String::new(),
                mode,
                initialized: false,
            },
            Some(earlier) => Plugin { wire, ..earlier },
        };
        match plugin.session() {
            Ok(End::Goodbye) => return ExitCode::SUCCESS,
            Ok(End::Closed) => {}
            Err(error) if ended(&error) => {}
            Err(error) => {
                eprintln!("session: {error}");
                return ExitCode::from(4);
            }
        }
        // The supervisor may have gone; another session comes with the next.
        state = Some(plugin);
    }
}

/// How a session ended.
enum End {
    Goodbye,
    Closed,
}

impl Plugin {
    /// Our greeting, as a right one would be.
    pub(crate) fn greeting() -> Hello {
        Hello::new("hostile", Version::new(0, 1, 0)).expect("the name is short and printable")
    }

    fn session(&mut self) -> io::Result<End> {
        if self.act(Moment::Hello)? == Next::Well {
            self.wire.hello(&Self::greeting())?;
        }
        // Theirs: whatever it says, there is nothing to choose here.
        if self.wire.receive()?.is_none() {
            return Ok(End::Closed);
        }
        while let Some(Frame { header, mut body }) = self.wire.receive()? {
            match codec::decode(&header).map_err(io::Error::other)? {
                Header::Call { id, method, encoding, rest, .. } => {
                    self.wire.receive_rest(&mut body, rest)?;
                    self.call(id, &method, encoding, body)?;
                }
                Header::Ping { token } => self.wire.send(&Header::Pong { token }, &[])?,
                Header::Drain { .. } if self.act(Moment::Drain)? == Next::Well => {
                    let goodbye =
                        Header::Goodbye { cause: GoodbyeCause::Done, reason: "drained".into() };
                    self.wire.send(&goodbye, &[])?;
                    return Ok(End::Goodbye);
                }
                _ => {}
            }
        }
        Ok(End::Closed)
    }

    fn call(&mut self, id: u64, method: &str, encoding: Encoding, body: Vec<u8>) -> io::Result<()> {
        match method {
            INIT => {
                let request = Payload { encoding, body: body.into() };
                if let Ok(InitRequest { config, .. }) = request.decode_bincode() {
                    self.config = config;
                }
                if self.act(Moment::Init { id })? == Next::Instead {
                    return Ok(());
                }
                let reply = InitReply { resumed: self.initialized };
                let payload = Payload::bincode(&reply).map_err(io::Error::other)?;
                self.wire.reply(id, &payload)?;
                if !std::mem::replace(&mut self.initialized, true) {
                    self.act(Moment::Ready)?;
                }
                Ok(())
            }
            HEALTH => match self.act(Moment::Health { id })? {
                Next::Well => {
                    self.healthy += 1;
                    let payload = Payload::bincode(&()).map_err(io::Error::other)?;
                    self.wire.reply(id, &payload)
                }
                Next::Instead => Ok(()),
            },
            _ => {
                if self.act(Moment::Call { id })? == Next::Instead {
                    return Ok(());
                }
                self.answered += 1;
                match method.rsplit('/').next() {
                    Some("echo") => self.wire.reply(id, &Payload { encoding, body: body.into() }),
                    // What it was configured with, its secrets too.
                    Some("config") => {
                        self.wire.reply(id, &Payload::json_bytes(self.config.clone()))
                    }
                    Some("pid") => {
                        let pid = std::process::id().to_string();
                        self.wire.reply(id, &Payload::json_bytes(pid))
                    }
                    _ => {
                        let text =
                            format!("no method `{method}`; there are `echo`, `config` and `pid`");
                        self.wire.fail(id, &CallError::new("METHOD_UNKNOWN", text))
                    }
                }
            }
        }
    }

    fn act(&mut self, moment: Moment) -> io::Result<Next> {
        match self.mode.act {
            Act::At(act) => act(self, moment),
            Act::Start(_) => Ok(Next::Well),
        }
    }
}
