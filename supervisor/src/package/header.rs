//! One header of the archive: 512 bytes in the POSIX ustar format (pax(1), "ustar Interchange
//! Format"), read more narrowly than that: what we do not write we mostly do not read either.
//!
//! Owner, group and time are ignored: a tree in the store has none of its author's.

use tar::{Header, UstarHeader};

use super::fault::{Fault, Reason};
use super::member::{Kind, Member, check_path};

/// The size of a header, and of what content is padded to.
pub(super) const BLOCK: usize = 512;

/// Decodes a header.
///
/// # Errors
/// With the member's name as far as it can be told.
pub(super) fn decode(block: &[u8; BLOCK]) -> Result<Member, Fault> {
    let header = Header::from_byte_slice(block);
    // Before anything of it is believed, its name in a message included.
    check_sum(header)?;
    let Some(fields) = header.as_ustar().filter(|fields| fields.version == *b"00") else {
        return Err(Reason::NotUstar.of(text(&header.as_old().name).unwrap_or(b"?")));
    };
    let name = name(fields)?;
    let fail = |reason: Reason| reason.of(&name);
    let directory = match fields.typeflag[0] {
        b'0' => false,
        b'5' => true,
        other => return Err(fail(Reason::Kind { kind: kind_name(other) })),
    };
    let path = if directory { name.strip_suffix(b"/").unwrap_or(&name) } else { &name[..] };
    let path = check_path(path).map_err(fail)?;
    if fields.linkname.iter().any(|byte| *byte != 0) {
        return Err(fail(Reason::BadField { field: "linkname" }));
    }
    let mode = octal(&fields.mode).ok_or_else(|| fail(Reason::BadNumber { field: "mode" }))?;
    if mode > 0o777 {
        return Err(fail(Reason::Mode { mode: u32::try_from(mode).unwrap_or(u32::MAX) }));
    }
    let size = octal(&fields.size).ok_or_else(|| fail(Reason::BadNumber { field: "size" }))?;
    let kind = match directory {
        true if size != 0 => return Err(fail(Reason::DirectoryContent)),
        true => Kind::Directory,
        false => Kind::File { size, executable: mode & 0o111 != 0 },
    };
    Ok(Member { path: path.to_owned(), kind })
}

fn check_sum(header: &Header) -> Result<(), Fault> {
    let mut with_blanks = header.clone();
    with_blanks.set_cksum();
    let wrong = || Fault::from(Reason::BadChecksum);
    match (header.cksum(), with_blanks.cksum()) {
        (Ok(found), Ok(right)) if found == right => Ok(()),
        _ => Err(wrong()),
    }
}

/// `prefix/name`. Both end at their first NUL, and what is behind that must be empty: another
/// program might read it.
fn name(fields: &UstarHeader) -> Result<Vec<u8>, Fault> {
    let field = |bytes, field| match text(bytes) {
        Some(text) => Ok(text),
        None => Err(Reason::BadField { field }.of(until_nul(&fields.name))),
    };
    let (prefix, name) = (field(&fields.prefix, "prefix")?, field(&fields.name, "name")?);
    Ok(if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() })
}

fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}

fn text(field: &[u8]) -> Option<&[u8]> {
    let text = until_nul(field);
    field[text.len()..].iter().all(|byte| *byte == 0).then_some(text)
}

/// Digits, then at least one blank or NUL: no sign, no leading blank, no base-256.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = field.iter().position(|byte| !matches!(byte, b'0'..=b'7'))?;
    let ended = field[digits..].iter().all(|byte| matches!(byte, b' ' | 0));
    if digits == 0 || !ended {
        return None;
    }
    // At most 11 digits: 33 bits.
    Some(field[..digits].iter().fold(0, |number, digit| number << 3 | u64::from(digit - b'0')))
}

fn kind_name(flag: u8) -> &'static str {
    match flag {
        0 => "a file of the format before ustar",
        b'1' => "a hard link",
        b'2' => "a symbolic link",
        b'3' | b'4' => "a device node",
        b'6' => "a FIFO",
        b'7' => "a contiguous file",
        b'x' | b'g' => "a pax extension header",
        b'L' | b'K' => "a GNU long name",
        b'S' => "a GNU sparse file",
        _ => "of an unknown kind",
    }
}
/// The header of a member, as [`decode`] reads it, without owner and time. `None` where its path
/// does not fit: ustar splits one at a `/` into at most 155 and 100 bytes.
pub(super) fn encode(member: &Member) -> Option<[u8; BLOCK]> {
    let mut header = Header::new_ustar();
    let (flag, mode, size) = match member.kind {
        Kind::Directory => (b'5', 0o755, 0),
        Kind::File { size, executable: true } => (b'0', 0o755, size),
        Kind::File { size, executable: false } => (b'0', 0o644, size),
    };
    header.set_path(&member.path).ok()?;
    header.set_entry_type(tar::EntryType::new(flag));
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Some(*header.as_bytes())
}
