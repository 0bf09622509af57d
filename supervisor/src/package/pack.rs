//! `bulkhead pack`: from a directory to a package, the same bytes from the same files.
//!
//! What must not matter does not get in: the order in which the directory is read, owners, times,
//! the umask, the path. The compression is one frame of one thread at a fixed level, so the bytes
//! depend on the files and on the zstd that is linked, which `Cargo.lock` fixes.

use std::fs::{File, Permissions};
use std::io::{self, BufReader, Read, Seek as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use semver::Version;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use zstd::stream::raw::CParameter;
use zstd::stream::write::Encoder;

use super::fault::Reason;
use super::header::{BLOCK, encode};
use super::member::{Kind, Member, PROGRAMS};
use super::reader::{Contents, read};
use super::sink::Nowhere;
use super::source::{Source, changed, unreadable};
use crate::failure::{Code, Failure};
use crate::id::{Digest, PluginId};
use crate::manifest::Manifest;

/// The ending of a package's name.
const ENDING: &str = "plugin";
/// Of the compression: quick enough for each build; 19 would save a tenth of the bytes for many times
/// the time.
const LEVEL: i32 = 12;
/// What an ELF file begins with (elf(5)).
const ELF: &[u8] = b"\x7fELF";

/// A package that was made.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Packed {
    pub(crate) package: PathBuf,
    pub(crate) id: PluginId,
    pub(crate) version: Version,
    pub(crate) files: usize,
    /// Of all files together.
    pub(crate) content_bytes: u64,
    /// Of the package.
    pub(crate) bytes: u64,
    /// Of the package's bytes.
    pub(crate) sha256: Digest,
}

/// The name that a package must have to be installed.
pub(crate) fn file_name(id: &PluginId, version: &Version) -> String {
    format!("{id}-{version}.{ENDING}")
}

/// Packs `directory`. The package gets its [`file_name`], in the current directory or in `output`,
/// which may also be that file itself; it replaces one of the same name.
///
/// # Errors
/// Whatever installing it would be refused for, as far as the files alone say so.
pub(crate) fn pack(directory: &Path, output: Option<&Path>) -> Result<Packed, Failure> {
    let manifest = Manifest::load(directory)?;
    let source = Source::list(directory)?;
    check_entry(directory, &manifest, &source.members)?;
    let package = place(directory, output, &file_name(&manifest.id, &manifest.version))?;
    let unwritable = |error: io::Error| {
        let message = format!("cannot write {}: {error}", package.display());
        Failure::new(Code::StorageFailed, message).with("path", &package)
    };
    let parent = package.parent().unwrap_or(Path::new("."));
    let mut hidden = tempfile::Builder::new()
        .prefix(".packing-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(parent)
        .map_err(unwritable)?;
    write(directory, &source, hidden.as_file_mut(), &unwritable)?;
    let (bytes, sha256) = check(hidden.as_file_mut(), source.contents, &unwritable)?;
    hidden.as_file().sync_all().map_err(unwritable)?;
    hidden.persist(&package).map_err(|error| unwritable(error.error))?;
    Ok(Packed {
        package,
        id: manifest.id,
        version: manifest.version,
        files: source.contents.files,
        content_bytes: source.contents.bytes,
        bytes,
        sha256,
    })
}

/// The compartment executes the entry and its loader and nothing else, so it must be a program
/// itself.
fn check_entry(directory: &Path, manifest: &Manifest, members: &[Member]) -> Result<(), Failure> {
    let entry = manifest.entry();
    let path = directory.join(&entry);
    let invalid = |why: String| {
        Failure::new(Code::EntryInvalid, format!("the entry {} {why}", path.display()))
            .with("path", &path)
    };
    if !entry.starts_with(&format!("{PROGRAMS}/")) {
        let why = format!("is not in {PROGRAMS}/, where the programs of a package are");
        return Err(invalid(why));
    }
    let Some(member) = members.iter().find(|member| member.path == entry) else {
        return Err(invalid("does not exist; build it, and copy it there".to_owned()));
    };
    if !matches!(member.kind, Kind::File { executable: true, .. }) {
        return Err(invalid(format!("has no run bit; chmod 755 {}", path.display())));
    }
    let mut magic = [0; ELF.len()];
    let file = Source::open(directory, member)?;
    match (&file).read_exact(&mut magic) {
        Ok(()) if magic == ELF => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            Err(unreadable(&path, &error))
        }
        _ => Err(invalid("is not an ELF program; a script has no interpreter there".to_owned())),
    }
}

/// Where the package goes: nowhere below the directory itself, or the next one would contain it.
fn place(directory: &Path, output: Option<&Path>, name: &str) -> Result<PathBuf, Failure> {
    let output = output.unwrap_or(Path::new("."));
    let (parent, file) = if output.is_dir() {
        (output, name)
    } else if output.file_name().is_some_and(|file| file == name) {
        (output.parent().unwrap_or(output), name)
    } else {
        let message = format!(
            "{} is no directory, and a package is named after its manifest: give a directory, or the name {name}",
            output.display()
        );
        return Err(Failure::new(Code::InvalidRequest, message).with("path", output));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let real = |path: &Path| path.canonicalize().map_err(|error| unreadable(path, &error));
    let (parent, directory) = (real(parent)?, real(directory)?);
    if parent.starts_with(&directory) {
        let message = format!(
            "the package would be inside of what is packed, {}; name another directory with -o",
            directory.display()
        );
        return Err(Failure::new(Code::InvalidRequest, message).with("path", parent));
    }
    Ok(parent.join(file))
}

fn write(
    directory: &Path,
    source: &Source,
    to: &mut File,
    unwritable: &dyn Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut encoder = Encoder::new(to, LEVEL).map_err(unwritable)?;
    encoder.set_parameter(CParameter::ChecksumFlag(true)).map_err(unwritable)?;
    encoder.set_pledged_src_size(Some(archive_bytes(&source.members))).map_err(unwritable)?;
    for member in &source.members {
        let path = directory.join(&member.path);
        let Some(header) = encode(member) else {
            let fault = Reason::NameSplit.of(member.path.as_bytes());
            return Err(Failure::from(fault).with("path", path));
        };
        encoder.write_all(&header).map_err(unwritable)?;
        let mut file = Source::open(directory, member)?;
        copy(&mut file, size(member), &path, &mut encoder, unwritable)?;
    }
    encoder.write_all(&[0; 2 * BLOCK]).map_err(unwritable)?;
    encoder.finish().map_err(unwritable)?;
    Ok(())
}

fn size(member: &Member) -> u64 {
    match member.kind {
        Kind::Directory => 0,
        Kind::File { size, .. } => size,
    }
}

fn archive_bytes(members: &[Member]) -> u64 {
    let block = BLOCK as u64;
    members.iter().map(|member| block + size(member).next_multiple_of(block)).sum::<u64>()
        + 2 * block
}

/// The content and its padding. A file that has grown or shrunk since is an error, not a package
/// that nobody can open.
fn copy(
    from: &mut File,
    size: u64,
    path: &Path,
    to: &mut impl Write,
    unwritable: &dyn Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut buffer = vec![0; 64 << 10];
    let mut copied = 0;
    loop {
        match from.read(&mut buffer).map_err(|error| unreadable(path, &error))? {
            0 => break,
            read => {
                copied += read as u64;
                if copied > size {
                    break;
                }
                to.write_all(&buffer[..read]).map_err(unwritable)?;
            }
        }
    }
    if copied != size {
        return Err(changed(path));
    }
    let padding = size.next_multiple_of(BLOCK as u64) - size;
    to.write_all(&[0; BLOCK][..padding as usize]).map_err(unwritable)
}

/// Reads the package back as whoever installs it will, and takes its measure.
fn check(
    file: &mut File,
    expected: Contents,
    unwritable: &dyn Fn(io::Error) -> Failure,
) -> Result<(u64, Digest), Failure> {
    file.rewind().map_err(unwritable)?;
    let mut hashed = Hashed { source: BufReader::new(&*file), hash: Sha256::new(), bytes: 0 };
    let found = read(&mut hashed, &mut Nowhere)?;
    if found != expected {
        return Err(Failure::internal(format!("packed {expected:?} and read {found:?}")));
    }
    Ok((hashed.bytes, Digest::new(hashed.hash.finalize().into())))
}

struct Hashed<R> {
    source: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
