//! The first frame each way, and what both sides make of it.
//!
//! The layout is frozen: every version, past and future, starts with it, so that two peers that
//! cannot talk to each other can at least say why.
//!
//! ```text
//! size  field
//! 4     magic      "BLKH"
//! 12    protocol   major, minor, patch: three u32, little endian
//! 8     features   u64, little endian: one bit each
//! 1     n          length of the name, 1 to 128
//! n     name       UTF-8, no control characters
//! 1     v          length of the version, 5 to 64
//! v     version    the peer's own version, semver
//! ```
//!
//! It is the header of a frame without a body. Nothing may follow it inside the frame.

use semver::Version;

use crate::Violation;

/// The version that this crate speaks.
pub const PROTOCOL_VERSION: Version = Version::new(1, 0, 0);

/// How a `Hello` starts. `B` is 66: no other header has that discriminant.
pub const MAGIC: [u8; 4] = *b"BLKH";

/// The longest name, in bytes.
pub const MAX_NAME: usize = 128;

/// The longest version of a peer, in bytes.
pub const MAX_VERSION: usize = 64;

/// The longest header that a `Hello` can have.
pub const MAX_HELLO: usize = 4 + 12 + 8 + 1 + MAX_NAME + 1 + MAX_VERSION;

/// Optional abilities, one bit each. Both sides use those that both have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(pub u64);

impl Features {
    /// No optional ability: version 1.0 has none yet.
    pub const NONE: Self = Self(0);

    /// Those that both have.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether every bit of `wanted` is there.
    pub fn contains(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }
}

/// Who is speaking, in which protocol version, with which abilities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The highest protocol version that this side speaks.
    pub protocol: Version,
    /// The peer's name: a plugin's id, or `bulkhead`. 1 to [`MAX_NAME`] bytes.
    pub name: String,
    /// The peer's own version. At most [`MAX_VERSION`] bytes.
    pub version: Version,
    /// What it can do beyond the version.
    pub features: Features,
}

/// A `Hello` that cannot be put on the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The name is empty or too long.
    #[error("the name has {length} bytes; a name has 1 to {MAX_NAME}")]
    NameLength {
        /// Bytes in the name.
        length: usize,
    },
    /// The name has a control character, which would garble a log.
    #[error("the name {name:?} has a control character; use printable text")]
    NameControl {
        /// The name as given.
        name: String,
    },
    /// The version is too long.
    #[error("the version {version} has {length} bytes; use at most {MAX_VERSION}")]
    VersionLength {
        /// The version as text.
        version: String,
        /// Bytes in it.
        length: usize,
    },
    /// A component of the protocol version does not fit 32 bits, or it has a pre-release part.
    #[error("the protocol version {version} is not three 32-bit numbers")]
    Protocol {
        /// The version as text.
        version: String,
    },
}

/// What both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The version spoken: the lower of the two.
    pub protocol: Version,
    /// The abilities that both have.
    pub features: Features,
    /// The peer's name.
    pub peer_name: String,
    /// The peer's own version.
    pub peer_version: Version,
}

impl Hello {
    /// A `Hello` in this crate's protocol version, without optional abilities.
    pub fn new(name: impl Into<String>, version: Version) -> Result<Self, HelloError> {
        let hello = Self {
            protocol: PROTOCOL_VERSION,
            name: name.into(),
            version,
            features: Features::NONE,
        };
        hello.encode()?;
        Ok(hello)
    }

    /// The header of the frame that carries it.
    pub fn encode(&self) -> Result<Vec<u8>, HelloError> {
        check_name(&self.name)?;
        let version = self.version.to_string();
        if version.len() > MAX_VERSION {
            return Err(HelloError::VersionLength { length: version.len(), version });
        }
        let mut bytes = Vec::with_capacity(26 + self.name.len() + version.len());
        bytes.extend_from_slice(&MAGIC);
        let Version { major, minor, patch, pre, build } = &self.protocol;
        let refused = || HelloError::Protocol { version: self.protocol.to_string() };
        if !pre.is_empty() || !build.is_empty() {
            return Err(refused());
        }
        for part in [major, minor, patch] {
            let part = u32::try_from(*part).map_err(|_| refused())?;
            bytes.extend_from_slice(&part.to_le_bytes());
        }
        bytes.extend_from_slice(&self.features.0.to_le_bytes());
        for text in [&self.name, &version] {
            bytes.push(u8::try_from(text.len()).expect("both lengths were checked above"));
            bytes.extend_from_slice(text.as_bytes());
        }
        Ok(bytes)
    }

    /// Reads the header of the first frame.
    pub fn decode(header: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields { bytes: header, length: header.len() };
        if fields.take::<4>("magic")? != MAGIC {
            return Err(Violation::HelloMissing { first: header[0] });
        }
        let mut part = || fields.take::<4>("protocol").map(|b| u64::from(u32::from_le_bytes(b)));
        let protocol = Version::new(part()?, part()?, part()?);
        let features = Features(u64::from_le_bytes(fields.take::<8>("features")?));
        let name = fields.text("name")?.to_owned();
        check_name(&name).map_err(|error| malformed("name", error))?;
        let version = fields.text("version")?;
        if version.len() > MAX_VERSION {
            return Err(malformed("version", format!("{} bytes", version.len())));
        }
        let version = Version::parse(version).map_err(|error| malformed("version", error))?;
        if !fields.bytes.is_empty() {
            return Err(Violation::HelloTrailing { trailing: fields.bytes.len() });
        }
        Ok(Self { protocol, name, version, features })
    }

    /// What this side and a peer that said `theirs` have in common; `None` if the major versions
    /// differ.
    pub fn negotiate(&self, theirs: &Self) -> Option<Negotiated> {
        if self.protocol.major != theirs.protocol.major {
            return None;
        }
        Some(Negotiated {
            protocol: self.protocol.clone().min(theirs.protocol.clone()),
            features: self.features.common(theirs.features),
            peer_name: theirs.name.clone(),
            peer_version: theirs.version.clone(),
        })
    }
}

fn check_name(name: &str) -> Result<(), HelloError> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(HelloError::NameLength { length: name.len() });
    }
    if name.chars().any(char::is_control) {
        return Err(HelloError::NameControl { name: name.to_owned() });
    }
    Ok(())
}

fn malformed(field: &'static str, reason: impl ToString) -> Violation {
    Violation::HelloMalformed { field, reason: reason.to_string() }
}

struct Fields<'a> {
    bytes: &'a [u8],
    length: usize,
}

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Violation> {
        let Some((value, rest)) = self.bytes.split_first_chunk::<N>() else {
            return Err(Violation::HelloTooShort { field, length: self.length });
        };
        self.bytes = rest;
        Ok(*value)
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, Violation> {
        let [length] = self.take::<1>(field)?;
        let Some((text, rest)) = self.bytes.split_at_checked(usize::from(length)) else {
            return Err(Violation::HelloTooShort { field, length: self.length });
        };
        self.bytes = rest;
        std::str::from_utf8(text).map_err(|error| malformed(field, error))
    }
}

#[cfg(test)]
mod tests;
