//! What the text of a record says.
//!
//! The kernel writes `key=value` words with blanks between them. What a program chose, a path or its
//! name, is quoted and without blanks, control characters and quotes, or else in hexadecimal
//! (`audit_log_untrustedstring`, kernel/audit.c), so no other field can be forged in it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use super::denial::{Denial, Object, Refusal};
use crate::seccomp::calls;

/// `AUDIT_SECCOMP`.
pub(super) const SECCOMP: u16 = 1326;
/// `AUDIT_LANDLOCK_ACCESS`: a domain was refused something (kernel 6.15).
pub(super) const LANDLOCK_ACCESS: u16 = 1423;
/// `AUDIT_LANDLOCK_DOMAIN`: who made a domain, after its first refusal; and that it is gone.
pub(super) const LANDLOCK_DOMAIN: u16 = 1424;
/// `struct nlmsghdr`: length, type, flags, sequence, port.
pub(super) const HEADER: usize = 16;
/// The longest that names what is refused; the kernel's own are shorter.
const MAX_ACCESS: usize = 256;

/// A record that passes the filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Call(Denial),
    /// Which uid's it is, another record says.
    Access {
        domain: u64,
        refusal: Refusal,
    },
    Domain {
        domain: u64,
        uid: u32,
    },
    DomainGone {
        domain: u64,
    },
}

pub(super) fn parse(packet: &[u8]) -> Option<Record> {
    let (header, text) = packet.split_at_checked(HEADER)?;
    let kind = u16::from_ne_bytes([header[4], header[5]]);
    // The kernel's own words are ASCII, and what is not is in hexadecimal.
    let fields = Fields(std::str::from_utf8(text).ok()?);
    match kind {
        SECCOMP => call(fields),
        LANDLOCK_ACCESS => access(fields),
        LANDLOCK_DOMAIN => domain(fields),
        _ => None,
    }
}

fn call(fields: Fields<'_>) -> Option<Record> {
    let arch = u32::from_str_radix(fields.get("arch")?, 16).ok()?;
    let number = fields.number("syscall")?;
    let refusal = Refusal::Seccomp { call: call_name(arch, number) };
    Some(Record::Call(Denial { uid: fields.number("uid")?, refusal }))
}

fn access(fields: Fields<'_>) -> Option<Record> {
    let access = fields.get("blockers")?;
    let is_known = |c: char| c.is_ascii_lowercase() || matches!(c, '.' | '_' | ',');
    if access.is_empty() || access.len() > MAX_ACCESS || !access.chars().all(is_known) {
        return None;
    }
    let object = match fields.get("path") {
        Some(path) => Some(Object::Path(untrusted(path)?)),
        // Of a connection the peer's, of a bind its own.
        None => fields.number("dest").or_else(|| fields.number("src")).map(Object::Port),
    };
    let refusal = Refusal::Landlock { access: access.to_owned(), object };
    Some(Record::Access { domain: fields.domain()?, refusal })
}

fn domain(fields: Fields<'_>) -> Option<Record> {
    let domain = fields.domain()?;
    match fields.get("status")? {
        "allocated" => Some(Record::Domain { domain, uid: fields.number("uid")? }),
        "deallocated" => Some(Record::DomainGone { domain }),
        _ => None,
    }
}

#[derive(Clone, Copy)]
struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    fn get(self, key: &str) -> Option<&'a str> {
        self.0
            .trim_end_matches(['\0', '\n', ' '])
            .split(' ')
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn number<T: std::str::FromStr>(self, key: &str) -> Option<T> {
        self.get(key)?.parse().ok()
    }

    fn domain(self) -> Option<u64> {
        u64::from_str_radix(self.get("domain")?, 16).ok()
    }
}

/// What a program chose, as it chose it.
fn untrusted(word: &str) -> Option<PathBuf> {
    if let Some(rest) = word.strip_prefix('"') {
        return Some(rest.strip_suffix('"')?.into());
    }
    let digits = word.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    let bytes: Option<Vec<u8>> =
        digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
    Some(OsString::from_vec(bytes?).into())
}

/// How a person knows the call. `arch`: AUDIT_ARCH_*.
fn call_name(arch: u32, number: u32) -> String {
    const X32: u32 = 0x4000_0000;
    const I386: u32 = 0x4000_0003;
    if arch == I386 {
        return format!("number {number} by int 0x80");
    }
    if cfg!(target_arch = "x86_64") && number & X32 != 0 {
        return format!("number {} of x32", number & !X32);
    }
    calls::name(number).map_or_else(|| format!("number {number}"), str::to_owned)
}
