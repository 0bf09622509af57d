//! Plugins that write more than their log keeps.

use std::future::pending;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use super::tests::{block_on, pipe, source};
use super::*;
use crate::manifest::ByteSize;

const RATE: Rate = Rate { lines: 10, bytes: ByteSize::new(1 << 20) };

/// With a list of the floods that were told.
fn limited(directory: &std::path::Path) -> (Book, Arc<Mutex<Vec<Dropped>>>) {
    let floods = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&floods);
    let on_flood = move |dropped: Dropped, rate: Rate| {
        assert_eq!(rate, RATE);
        told.lock().unwrap().push(dropped);
    };
    let rules = Rules { rate: Some(RATE), on_flood: Some(Box::new(on_flood)), ..Rules::default() };
    (Book::open(directory, rules).unwrap(), floods)
}

/// Its clock goes on at once to when something is due.
fn on_a_clock_that_does_not_wait(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future);
}

/// The lines that are kept, and the sum of those that are told as dropped.
fn sum(book: &Book) -> (Vec<String>, Dropped) {
    let mut dropped = Dropped::default();
    let mut kept = Vec::new();
    for record in book.tail(usize::MAX).unwrap() {
        match record.dropped {
            Some(more) => {
                dropped.lines += more.lines;
                dropped.bytes += more.bytes;
            }
            None => kept.push(record.message),
        }
    }
    (kept, dropped)
}

#[test]
fn what_is_over_the_limit_is_dropped_and_counted_to_the_line_and_the_byte() {
    let directory = tempfile::tempdir().unwrap();
    let (book, floods) = limited(directory.path());
    let (reader, mut writer) = pipe();
    for n in 0..1000 {
        writeln!(writer, "{n:03}").unwrap();
    }
    drop(writer);
    block_on(capture(reader, source(Stream::Stdout, 1), book.clone(), pending())).unwrap();
    let (kept, dropped) = sum(&book);
    assert_eq!(kept.len(), 50, "the burst");
    assert_eq!(kept.last().map(String::as_str), Some("049"));
    assert_eq!(dropped, Dropped { lines: 950, bytes: 950 * 4 });
    assert_eq!(book.counts().dropped, dropped);
    assert_eq!(*floods.lock().unwrap(), [dropped]);
    let last = book.tail(1).unwrap().remove(0);
    assert_eq!((last.level, last.at), (Level::Warn, 4000));
    assert_eq!(
        last.message,
        "950 lines (3800 bytes) dropped: over the rate limit of 10 lines and 1M bytes a second"
    );
}

#[test]
fn both_streams_share_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let (book, floods) = limited(directory.path());
    for stream in [Stream::Stdout, Stream::Stderr] {
        let (reader, mut writer) = pipe();
        writer.write_all("x\n".repeat(40).as_bytes()).unwrap();
        drop(writer);
        block_on(capture(reader, source(stream, 1), book.clone(), pending())).unwrap();
    }
    let (kept, dropped) = sum(&book);
    assert_eq!((kept.len(), dropped.lines), (50, 30));
    assert_eq!(floods.lock().unwrap().len(), 1);
}

#[test]
fn it_is_told_a_moment_later_though_nothing_more_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let (book, _) = limited(directory.path());
    let (reader, mut writer) = pipe();
    writer.write_all("x\n".repeat(60).as_bytes()).unwrap();
    let mut live = book.follow();
    let told = async { while live.recv().await.unwrap().dropped.is_none() {} };
    on_a_clock_that_does_not_wait(async {
        let begun = tokio::time::Instant::now();
        capture(reader, source(Stream::Stdout, 1), book.clone(), told).await.unwrap();
        assert!(begun.elapsed() >= rate::SHUT, "{:?}", begun.elapsed());
    });
    assert_eq!(sum(&book).1.lines, 10);
    drop(writer);
}

#[test]
fn the_pipe_of_a_flood_is_read_at_a_pace() {
    let directory = tempfile::tempdir().unwrap();
    let (book, _) = limited(directory.path());
    let (reader, mut writer) = pipe();
    let writing = std::thread::spawn(move || {
        let line = format!("{}\n", "x".repeat(1023));
        writer.write_all(line.repeat(2048).as_bytes()).unwrap();
    });
    on_a_clock_that_does_not_wait(async {
        let begun = tokio::time::Instant::now();
        capture(reader, source(Stream::Stdout, 1), book.clone(), pending()).await.unwrap();
        // 2 MiB are at least 32 pipes.
        assert!(begun.elapsed() >= capture::PACE * 30, "{:?}", begun.elapsed());
    });
    writing.join().unwrap();
    assert_eq!(sum(&book).1.lines, 2048 - 50);
}

#[test]
fn no_line_is_without_account_when_supervisors_die_in_a_flood() {
    let directory = tempfile::tempdir().unwrap();
    let (reader, mut writer) = pipe();
    let line = format!("{}\n", "x".repeat(99));
    let mut written = 0;
    for round in 0..60 {
        let (book, _) = limited(directory.path());
        block_on(async {
            let copy = reader.try_clone().unwrap();
            let of = source(Stream::Stdout, 7);
            let mut capturing = Box::pin(capture(copy, of, book.clone(), pending()));
            // A few turns, then it is dropped wherever it is.
            for _ in 0..round % 5 {
                writer.write_all(line.repeat(300).as_bytes()).unwrap();
                written += 300;
                tokio::select! { biased; _ = &mut capturing => panic!("the pipe is open"), () = tokio::task::yield_now() => {} }
                drop(capturing);
                let copy = reader.try_clone().unwrap();
                capturing = Box::pin(capture(copy, of, book.clone(), pending()));
            }
        });
    }
    drop(writer);
    let (book, _) = limited(directory.path());
    block_on(capture(reader, source(Stream::Stdout, 7), book.clone(), pending())).unwrap();
    let (kept, dropped) = sum(&book);
    assert!(dropped.bytes > 2 << 20, "the spool was begun anew: {dropped:?}");
    assert_eq!(kept.len() as u64 + dropped.lines, written);
    assert_eq!(dropped.bytes, dropped.lines * 100);
}
