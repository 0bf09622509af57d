//! Packages made by hand, header by header, as `bulkhead pack` never makes them.
//!
//! The unit tests of the supervisor's package reader include this file too.

use std::io::Write as _;

/// One header in the POSIX ustar format; every field as the test wants it.
#[derive(Clone, Debug)]
pub struct Header {
    pub name: Vec<u8>,
    pub prefix: Vec<u8>,
    pub mode: Vec<u8>,
    pub size: Vec<u8>,
    pub flag: u8,
    pub link: Vec<u8>,
    /// Magic and version.
    pub magic: Vec<u8>,
    /// Added to the right checksum.
    pub checksum_error: u32,
}

impl Header {
    /// A regular file of mode 0644.
    pub fn file(name: &str, size: usize) -> Self {
        Self {
            name: name.into(),
            prefix: Vec::new(),
            mode: b"0000644".to_vec(),
            size: format!("{size:011o}").into_bytes(),
            flag: b'0',
            link: Vec::new(),
            magic: b"ustar\x0000".to_vec(),
            checksum_error: 0,
        }
    }

    /// A member without content, of another kind.
    pub fn kind(name: &str, flag: u8) -> Self {
        Self { flag, ..Self::file(name, 0) }
    }

    pub fn block(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| {
            block[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &self.name);
        put(100, &self.mode);
        put(108, b"0000000");
        put(116, b"0000000");
        put(124, &self.size);
        put(136, b"00000000000");
        put(148, b"        ");
        put(156, &[self.flag]);
        put(157, &self.link);
        put(257, &self.magic);
        put(345, &self.prefix);
        let sum = block.iter().map(|byte| u32::from(*byte)).sum::<u32>() + self.checksum_error;
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// The bytes of an archive so far, not yet compressed.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    pub bytes: Vec<u8>,
}

impl Archive {
    /// A plugin `probe` with this binary; without the end.
    pub fn plugin(binary: &[u8]) -> Self {
        let mut archive = Self::default();
        archive.file("plugin.toml", b"id = \"probe\"\nversion = \"1.0.0\"\n");
        let mut header = Header::file("bin/probe", binary.len());
        header.mode = b"0000755".to_vec();
        archive.member(&header, binary);
        archive
    }

    pub fn file(&mut self, name: &str, content: &[u8]) {
        self.member(&Header::file(name, content.len()), content);
    }

    /// A header, and content filled up with zeros, whatever size the header claims.
    pub fn member(&mut self, header: &Header, content: &[u8]) {
        self.bytes.extend_from_slice(&header.block());
        self.bytes.extend_from_slice(content);
        self.zeros(self.bytes.len().next_multiple_of(512) - self.bytes.len());
    }

    pub fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    /// With the two blocks that end it, as a package.
    pub fn package(&self) -> Vec<u8> {
        let mut whole = self.clone();
        whole.zeros(1024);
        compress(&whole.bytes)
    }
}

/// One zstd frame with a checksum, as one finds in a package.
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A package that must be refused, and the same without the trick, which must not.
pub struct Attack {
    pub name: &'static str,
    /// Of the failure's details.
    pub reason: &'static str,
    /// Of the failure's details, where it is about one.
    pub member: Option<String>,
    pub package: Vec<u8>,
    pub control: Vec<u8>,
}

/// One more member than the plugin has.
fn with(binary: &[u8], header: &Header, content: &[u8]) -> Vec<u8> {
    let mut archive = Archive::plugin(binary);
    archive.member(header, content);
    archive.package()
}

/// The attacks on a package of the plugin `probe` with this binary.
pub fn attacks(binary: &[u8]) -> Vec<Attack> {
    let mut all = names(binary);
    all.extend(kinds(binary));
    all.extend(headers(binary));
    all.extend(layout(binary));
    all.extend(ends(binary));
    all.extend(sizes(binary));
    all
}

fn names(binary: &[u8]) -> Vec<Attack> {
    let control = with(binary, &Header::file("share/text", 0), b"");
    let long = format!("{}/{}", "d".repeat(100), "f".repeat(100));
    let deep = ["d"; 17].join("/");
    let mut all: Vec<Attack> = [
        ("path traversal", "../outside", "name-component"),
        ("path traversal further in", "share/../../outside", "name-component"),
        ("absolute path", "/etc/cron.d/outside", "name-absolute"),
        ("dot component", "share/./text", "name-component"),
        ("empty component", "share//text", "name-component"),
        ("file named as a directory", "share/text/", "name-component"),
        ("no name", "", "name-empty"),
        ("too deep", &deep, "name-too-deep"),
        ("line break in a name", "share/a\nb", "name-characters"),
        ("escape sequence in a name", "share/\u{1b}[2J", "name-characters"),
        ("backslash", "share\\..\\text", "name-characters"),
        ("letter outside of ASCII", "share/é", "name-characters"),
        ("the same letter, decomposed", "share/e\u{301}", "name-characters"),
        ("full-width letter", "share/ｔext", "name-characters"),
        ("blank at the end", "share/text ", "name-characters"),
        ("hidden file", "share/.text", "name-hidden"),
        ("file in a hidden directory", ".git/config", "name-hidden"),
    ]
    .map(|(name, path, reason)| Attack {
        name,
        reason,
        member: Some(path.to_owned()),
        package: with(binary, &Header::file(path, 0), b""),
        control: control.clone(),
    })
    .into();
    let mut push = |name, reason, shown: &str, header: &Header| {
        all.push(Attack {
            name,
            reason,
            member: Some(shown.to_owned()),
            package: with(binary, header, b""),
            control: control.clone(),
        });
    };
    let mut header = Header::file("share/text", 0);
    header.prefix = b"..".to_vec();
    push("path traversal in the prefix", "name-component", "../share/text", &header);
    header.prefix = long.as_bytes()[..155].to_vec();
    header.name = vec![b'n'; 100];
    let shown: String = format!("{}/{}", &long[..155], "n".repeat(100)).chars().take(255).collect();
    push("longer than paths are", "name-too-long", &shown, &header);
    header.prefix = Vec::new();
    header.name = b"share/text\0../../outside".to_vec();
    push("a second name behind a NUL", "bad-field", "share/text", &header);
    header.name = b"share/\xff\xfe".to_vec();
    push("not UTF-8", "name-characters", "share/\u{fffd}\u{fffd}", &header);
    all
}

fn kinds(binary: &[u8]) -> Vec<Attack> {
    let control = with(binary, &Header::file("share/text", 0), b"");
    let mut all = Vec::new();
    for (name, flag, link) in [
        ("symbolic link out", b'2', "../../etc/shadow"),
        ("symbolic link inside", b'2', "../plugin.toml"),
        ("hard link", b'1', "plugin.toml"),
        ("hard link out", b'1', "/etc/shadow"),
        ("character device", b'3', ""),
        ("block device", b'4', ""),
        ("FIFO", b'6', ""),
        ("contiguous file", b'7', ""),
        ("file of the old format", 0, ""),
        ("pax header of all members", b'g', ""),
        ("GNU sparse file", b'S', ""),
        ("GNU volume label", b'V', ""),
        ("unknown kind", b'Z', ""),
    ] {
        let mut header = Header::kind("share/text", flag);
        header.link = link.into();
        all.push(Attack {
            name,
            reason: "kind",
            member: Some("share/text".to_owned()),
            package: with(binary, &header, b""),
            control: control.clone(),
        });
    }
    // Extensions that give the member after them another name or size.
    for (name, flag, content) in [
        ("pax header with another name", b'x', "22 path=../../outside\n"),
        ("pax header with another size", b'x', "13 size=9999\n"),
        ("pax header of a sparse file", b'x', "22 GNU.sparse.major=1\n"),
        ("GNU long name", b'L', "../../outside\0"),
        ("GNU long link", b'K', "/etc/shadow\0"),
    ] {
        let extension = Header { flag, ..Header::file("share/extension", content.len()) };
        let mut archive = Archive::plugin(binary);
        archive.member(&extension, content.as_bytes());
        archive.file("share/text", b"");
        all.push(Attack {
            name,
            reason: "kind",
            member: Some("share/extension".to_owned()),
            package: archive.package(),
            control: control.clone(),
        });
    }
    all
}

fn headers(binary: &[u8]) -> Vec<Attack> {
    let control = with(binary, &Header::file("share/text", 5), b"hello");
    let text = Header::file("share/text", 5);
    let base_256 = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5].to_vec();
    [
        ("setuid", "mode", Header { mode: b"0004755".to_vec(), ..text.clone() }),
        ("setgid", "mode", Header { mode: b"0002755".to_vec(), ..text.clone() }),
        ("sticky", "mode", Header { mode: b"0001644".to_vec(), ..text.clone() }),
        ("mode of a device", "mode", Header { mode: b"0020644".to_vec(), ..text.clone() }),
        ("no mode", "bad-number", Header { mode: Vec::new(), ..text.clone() }),
        ("size in base 256", "bad-number", Header { size: base_256, ..text.clone() }),
        ("negative size", "bad-number", Header { size: b"-0000000005".to_vec(), ..text.clone() }),
        ("size and more", "bad-number", Header { size: b"5 7".to_vec(), ..text.clone() }),
        ("no size", "bad-number", Header { size: Vec::new(), ..text.clone() }),
        ("file with a link's target", "bad-field", Header { link: b"x".to_vec(), ..text.clone() }),
        ("directory with content", "directory-content", Header { flag: b'5', ..text.clone() }),
        ("GNU magic", "not-ustar", Header { magic: b"ustar  \0".to_vec(), ..text.clone() }),
        ("no magic", "not-ustar", Header { magic: Vec::new(), ..text.clone() }),
    ]
    .map(|(name, reason, header)| Attack {
        name,
        reason,
        member: Some("share/text".to_owned()),
        package: with(binary, &header, b"hello"),
        control: control.clone(),
    })
    .into_iter()
    .chain(["checksum", "padding"].map(|what| {
        let mut archive = Archive::plugin(binary);
        let error = u32::from(what == "checksum");
        archive.member(&Header { checksum_error: error, ..text.clone() }, b"hello");
        if what == "padding" {
            *archive.bytes.last_mut().unwrap() = 1;
        }
        Attack {
            name: if error == 1 { "wrong checksum" } else { "bytes behind the content" },
            reason: if error == 1 { "bad-checksum" } else { "padding" },
            member: (error == 0).then(|| "share/text".to_owned()),
            package: archive.package(),
            control: control.clone(),
        }
    }))
    .collect()
}

fn layout(binary: &[u8]) -> Vec<Attack> {
    let pair = |first: &str, second: &str| {
        let mut archive = Archive::plugin(binary);
        for path in [first, second] {
            match path.strip_suffix('/') {
                Some(_) => archive.member(&Header::kind(path, b'5'), b""),
                None => archive.file(path, b""),
            }
        }
        archive.package()
    };
    let control = pair("share/text", "share/other");
    let mut all: Vec<Attack> = [
        ("duplicate file", "share/text", "share/text", "name-taken"),
        ("duplicate directory", "share/", "share/", "name-taken"),
        ("a second manifest", "share/text", "plugin.toml", "name-taken"),
        ("case trick on a file", "share/text", "share/TEXT", "name-taken"),
        ("case trick on a directory", "share/text", "Share/other", "name-taken"),
        ("case trick on the manifest", "share/text", "Plugin.toml", "name-taken"),
        ("file over a directory", "share/text", "share", "name-taken"),
        ("directory over a file", "text", "text/", "name-taken"),
        ("file inside a file", "share/text", "share/text/other", "inside-file"),
    ]
    .map(|(name, first, second, reason)| Attack {
        name,
        reason,
        member: Some(second.trim_end_matches('/').to_owned()),
        package: pair(first, second),
        control: control.clone(),
    })
    .into();
    let alone = |paths: &[&str]| {
        let mut archive = Archive::default();
        for path in paths {
            archive.file(path, b"");
        }
        archive.package()
    };
    for (name, reason, member, paths) in [
        ("no manifest", "no-manifest", None, &["bin/probe"][..]),
        ("manifest in upper case", "no-manifest", None, &["PLUGIN.TOML", "bin/probe"]),
        ("manifest further in", "no-manifest", None, &["probe/plugin.toml", "bin/probe"]),
        ("no program", "no-program", None, &["plugin.toml", "share/probe"]),
        ("bin is a file", "layout", Some("bin"), &["plugin.toml", "bin"]),
        ("empty archive", "no-manifest", None, &[]),
    ] {
        all.push(Attack {
            name,
            reason,
            member: member.map(str::to_owned),
            package: alone(paths),
            control: control.clone(),
        });
    }
    let mut archive = Archive::default();
    archive.member(&Header::kind("plugin.toml/", b'5'), b"");
    all.push(Attack {
        name: "manifest is a directory",
        reason: "layout",
        member: Some("plugin.toml".to_owned()),
        package: archive.package(),
        control,
    });
    all
}

fn ends(binary: &[u8]) -> Vec<Attack> {
    let whole = Archive::plugin(binary);
    let control = whole.package();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"more"].concat();
    let frame = |change: &dyn Fn(&mut Archive)| {
        let mut archive = whole.clone();
        change(&mut archive);
        compress(&archive.bytes)
    };
    let mut corrupt = control.clone();
    *corrupt.last_mut().unwrap() ^= 1;
    [
        (
            "member after the end",
            "trailing-member",
            frame(&|archive| {
                archive.zeros(1024);
                archive.file("share/text", b"");
                archive.zeros(1024);
            }),
        ),
        (
            "a byte after the end",
            "trailing-member",
            frame(&|archive| {
                archive.zeros(1024);
                archive.bytes.push(1);
            }),
        ),
        ("more zeros than a record", "trailing-member", frame(&|a| a.zeros(1024 + 19 * 512))),
        (
            "one block of zeros",
            "bad-end",
            frame(&|archive| {
                archive.zeros(512);
                archive.file("share/text", b"");
            }),
        ),
        ("no end", "truncated", frame(&|_| {})),
        ("half an end", "truncated", frame(&|archive| archive.zeros(512))),
        ("a byte after the frame", "trailing-data", [&control[..], b"x"].concat()),
        ("a second frame", "trailing-data", [&control[..], &control].concat()),
        ("a skippable frame behind", "trailing-data", [&control[..], &skippable].concat()),
        ("a skippable frame before", "not-compressed", [&skippable, &control[..]].concat()),
        ("an archive without compression", "not-compressed", whole.bytes.clone()),
        ("a ZIP archive", "not-compressed", b"PK\x03\x04 and so on".to_vec()),
        ("an empty file", "truncated", Vec::new()),
        ("truncated in the middle", "truncated", control[..control.len() / 2].to_vec()),
        ("truncated by one byte", "truncated", control[..control.len() - 1].to_vec()),
        ("damaged", "bad-frame", corrupt),
    ]
    .map(|(name, reason, package)| Attack {
        name,
        reason,
        member: None,
        package,
        control: control.clone(),
    })
    .into()
}

fn sizes(binary: &[u8]) -> Vec<Attack> {
    let crowd = |count: usize| {
        let mut archive = Archive::plugin(binary);
        // plugin.toml, bin, bin/probe and share are the first four.
        for number in 4..count {
            archive.file(&format!("share/{number}"), b"");
        }
        archive.package()
    };
    let mut claim = Header::file("share/text", 0);
    claim.size = b"77777777777".to_vec();
    let windowed = |log: u32| {
        let mut archive = Archive::plugin(binary);
        archive.zeros(1024);
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(log).unwrap();
        encoder.write_all(&archive.bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zeros = |size: usize| with(binary, &Header::file("share/zeros", size), &vec![0; size]);
    vec![
        Attack {
            name: "too many members",
            reason: "too-many-members",
            member: None,
            package: crowd(10_001),
            control: crowd(10_000),
        },
        Attack {
            name: "a file of 8 GiB, or so it says",
            reason: "file-too-large",
            member: Some("share/text".to_owned()),
            package: with(binary, &claim, b""),
            control: with(binary, &Header::file("share/text", 0), b""),
        },
        Attack {
            name: "decompression bomb",
            reason: "bomb",
            member: None,
            package: zeros(128 << 20),
            control: zeros(16 << 20),
        },
        Attack {
            name: "a window that needs much memory",
            reason: "bad-frame",
            member: None,
            package: windowed(27),
            control: windowed(23),
        },
    ]
}
