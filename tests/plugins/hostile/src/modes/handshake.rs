//! Before the plugin is ready: start, greeting, `init`.

use std::io::Write;

use bulkhead_ipc_protocol::{CallError, Payload};
use semver::Version;

use super::{Act, Mode, Moment, Next, at, exit, hang, mode};
use crate::serve::Plugin;

pub(super) static MODES: &[Mode] = &[
    mode(
        "exit-at-once",
        "exits with status NUMBER before anything else",
        7,
        Act::Start(|number| exit(number)),
    ),
    mode("abort-at-once", "aborts before anything else", 0, Act::Start(|_| std::process::abort())),
    mode(
        "garbage-stdout",
        "prints binary garbage, then what looks like a frame, and behaves",
        0,
        Act::Start(|_| garbage()),
    ),
    mode("never-session", "never takes its session", 0, Act::Start(|_| hang())),
    mode("never-hello", "takes its session and says nothing", 0, at!(Moment::Hello => |_| hang())),
    mode(
        "hello-twice",
        "says Hello twice",
        0,
        at!(Moment::Hello => |plugin| {
            plugin.wire.hello(&Plugin::greeting())?;
            Ok(Next::Well)
        }),
    ),
    mode(
        "call-before-hello",
        "calls before it says Hello",
        0,
        at!(Moment::Hello => |plugin| {
            plugin.wire.call(1, "bulkhead.host/state.list")?;
            Ok(Next::Well)
        }),
    ),
    mode(
        "protocol",
        "speaks protocol NUMBER.0.0",
        99,
        at!(Moment::Hello => |plugin| {
            let mut hello = Plugin::greeting();
            hello.protocol = Version::new(plugin.number, 0, 0);
            plugin.wire.hello(&hello)?;
            Ok(Next::Instead)
        }),
    ),
    mode(
        "bad-magic",
        "says HTTP instead of Hello",
        0,
        at!(Moment::Hello => |plugin| {
            plugin.wire.bytes(b"GET / HTTP/1.1\r\nHost: bulkhead\r\n\r\n")?;
            Ok(Next::Instead)
        }),
    ),
    mode(
        "hello-trailing",
        "adds NUMBER bytes to its Hello",
        1,
        at!(Moment::Hello => |plugin| {
            let mut header = Plugin::greeting().encode().map_err(std::io::Error::other)?;
            header.resize(header.len() + plugin.number as usize, 0);
            plugin.wire.frame(&header, &[])?;
            Ok(Next::Instead)
        }),
    ),
    mode(
        "close-session",
        "closes its session instead of saying Hello, and lives on",
        0,
        at!(Moment::Hello => |plugin| {
            plugin.wire.stream.shutdown(std::net::Shutdown::Both)?;
            Ok(Next::Instead)
        }),
    ),
    mode("hang-in-init", "never answers `init`", 0, at!(Moment::Init { .. } => |_| hang())),
    mode(
        "crash-in-init",
        "aborts in `init`",
        0,
        at!(Moment::Init { .. } => |_| std::process::abort()),
    ),
    mode(
        "fail-init",
        "answers `init` with an error",
        0,
        Act::At(|plugin, moment| match moment {
            Moment::Init { id } => {
                let error =
                    CallError::new("NO_DATABASE", "the database at db.example does not answer");
                plugin.wire.fail(id, &error)?;
                Ok(Next::Instead)
            }
            _ => Ok(Next::Well),
        }),
    ),
    mode(
        "quote-config",
        "refuses `init` and quotes its configuration, in the error and on standard error",
        0,
        Act::At(|plugin, moment| match moment {
            Moment::Init { id } => {
                eprintln!("told {}", plugin.config);
                let text = format!("cannot use {}", plugin.config);
                let error = CallError::new("CONFIG_INVALID", text).with_details(&plugin.config);
                plugin.wire.fail(id, &error)?;
                Ok(Next::Instead)
            }
            _ => Ok(Next::Well),
        }),
    ),
    mode(
        "garbage-init",
        "answers `init` with bytes that mean nothing",
        0,
        Act::At(|plugin, moment| match moment {
            Moment::Init { id } => {
                plugin.wire.reply(id, &Payload::raw(vec![0xff; 64]))?;
                Ok(Next::Instead)
            }
            _ => Ok(Next::Well),
        }),
    ),
];

fn garbage() {
    let mut out = std::io::stdout();
    let lines: &[&[u8]] = &[
        b"1|1|tcp|127.0.0.1:1234|grpc\n",
        b"\x00\x01\xff\xfe not UTF-8 \xc3\x28\n",
        b"\x1b[2J\x1b]0;title\x07 for the terminal\n",
        b"\x1d\x00\x00\x00\x1b\x00BLKH\x01\x00\x00\x00\n",
        b"the last line has no end",
    ];
    for line in lines {
        // Where nobody reads it, there is nobody to disturb.
        let _ = out.write_all(line).and_then(|()| out.flush());
    }
}
