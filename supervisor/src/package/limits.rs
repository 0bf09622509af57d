//! What a package may be at most. `pack` refuses what is beyond, and so does every reader.
//!
//! `docs/packages.md` has the same table; a test compares them.

/// Bytes of the package itself, compressed.
pub(crate) const PACKAGE_BYTES: u64 = 512 << 20;
/// Bytes of all its files together.
pub(crate) const TREE_BYTES: u64 = 1 << 30;
/// Bytes of one file.
pub(crate) const FILE_BYTES: u64 = 512 << 20;
/// Files and directories, with those directories that only the files' paths name.
pub(crate) const MEMBERS: usize = 10_000;
/// Bytes of a path, which is what a ustar header holds in any case.
pub(crate) const PATH_BYTES: usize = 255;
/// Names in a path.
pub(crate) const DEPTH: usize = 16;
/// How many bytes may come of one compressed byte, once there are more than [`RATIO_FREE`].
pub(crate) const RATIO: u64 = 250;
/// What may come of however few bytes: a small file of zeros is no bomb.
pub(crate) const RATIO_FREE: u64 = 32 << 20;
/// The binary logarithm of the frame's window: 8 MiB, which every decoder is asked to support
/// (RFC 8878, section 3.1.1.1.2). It bounds the memory of whoever opens a package.
pub(crate) const WINDOW_LOG: u32 = 23;
