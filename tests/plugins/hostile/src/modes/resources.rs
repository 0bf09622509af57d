//! Taking more than one's share. Each is bounded by its number, so that a machine without limits survives it.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use bulkhead_ipc_protocol::message::Header;
use bulkhead_ipc_protocol::{Encoding, Payload};

use crate::serve::Plugin;

use super::{Act, Mode, Moment, Next, at, mode};

const MIB: usize = 1 << 20;

pub(super) static MODES: &[Mode] = &[
    mode(
        "leak-memory",
        "takes NUMBER MiB and keeps them",
        512,
        at!(Moment::Ready => |plugin| {
            let mut kept = Vec::new();
            for _ in 0..plugin.number {
                // Not zero: a page of zeroes need not be there.
                kept.push(black_box(vec![1_u8; MIB]));
            }
            eprintln!("took {} MiB", kept.len());
            std::mem::forget(kept);
            Ok(Next::Well)
        }),
    ),
    mode(
        "threads",
        "starts threads until refused, at most NUMBER, and tells how many on standard error",
        200,
        at!(Moment::Ready => |plugin| {
            let started = (0..plugin.number).take_while(|_| {
                std::thread::Builder::new().stack_size(64 << 10).spawn(|| super::hang()).is_ok()
            });
            eprintln!("started {} threads", started.count());
            Ok(Next::Well)
        }),
    ),
    mode(
        "fill-data",
        "writes NUMBER MiB to /data until refused, and tells how much on standard error",
        256,
        at!(Moment::Ready => |plugin| {
            fill("/data/fill", plugin.number)
        }),
    ),
    mode(
        "hoard-data",
        "writes NUMBER files of 1 MiB each to /data when it is called",
        64,
        at!(Moment::Call { .. } => |plugin| {
            for index in 0..plugin.number {
                fill(&format!("/data/hoard-{index}"), 1)?;
            }
            Ok(Next::Well)
        }),
    ),
    mode(
        "riot",
        "once healthy spins, floods its log and its session for NUMBER milliseconds, and aborts",
        500,
        Act::At(|plugin, moment| match moment {
            Moment::Health { id } => {
                plugin.wire.reply(id, &Payload::bincode(&()).map_err(io::Error::other)?)?;
                riot(plugin)
            }
            _ => Ok(Next::Well),
        }),
    ),
    mode(
        "log-flood",
        "writes NUMBER lines to standard output and error once ready",
        200_000,
        at!(Moment::Ready => |plugin| {
            let (out, err) = (io::stdout(), io::stderr());
            for line in 0..plugin.number {
                writeln!(out.lock(), "line {line} of a flood: {}", "x".repeat(80))?;
                writeln!(err.lock(), "line {line} of a flood: {}", "y".repeat(80))?;
            }
            Ok(Next::Well)
        }),
    ),
    mode(
        "count",
        "writes the lines 1, 2, 3, … to standard output, NUMBER milliseconds apart, once ready",
        2,
        at!(Moment::Ready => |plugin| {
            let pause = Duration::from_millis(plugin.number);
            std::thread::spawn(move || {
                for line in 1_u64.. {
                    if writeln!(io::stdout().lock(), "line {line}").is_err() {
                        return;
                    }
                    std::thread::sleep(pause);
                }
            });
            Ok(Next::Well)
        }),
    ),
];

/// All at once: a busy thread, a flood of log lines, a flood of events that nobody lets it publish.
fn riot(plugin: &mut Plugin) -> io::Result<Next> {
    std::thread::Builder::new().spawn(|| {
        loop {
            black_box(0_u64);
        }
    })?;
    std::thread::Builder::new().spawn(|| {
        let line = "z".repeat(200);
        while writeln!(io::stdout(), "{line}")
            .and_then(|()| writeln!(io::stderr(), "{line}"))
            .is_ok()
        {}
    })?;
    let event =
        Header::Event { topic: "riot".into(), encoding: Encoding::Raw, rest: 0, trace: None };
    let end = Instant::now() + Duration::from_millis(plugin.number);
    while Instant::now() < end {
        plugin.wire.send(&event, &[0; 1024])?;
    }
    std::process::abort();
}

fn fill(path: &str, mebibytes: u64) -> io::Result<Next> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    let piece = vec![b'f'; MIB];
    let mut written = 0;
    let refused = loop {
        if written == mebibytes {
            break None;
        }
        match file.write_all(&piece) {
            Ok(()) => written += 1,
            Err(error) => break Some(error),
        }
    };
    match refused {
        None => eprintln!("wrote {written} MiB to {path}"),
        Some(error) => eprintln!("wrote {written} MiB to {path}, then: {error}"),
    }
    Ok(Next::Well)
}
