use std::future::{pending, ready};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::*;

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(super) fn pipe() -> (OwnedFd, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader.into(), writer)
}

fn open(directory: &std::path::Path) -> Book {
    Book::open(directory, Rules::default()).unwrap()
}

pub(super) fn source(stream: Stream, generation: u64) -> Source {
    Source { stream, generation }
}

fn messages(book: &Book) -> Vec<String> {
    book.tail(usize::MAX).unwrap().into_iter().map(|record| record.message).collect()
}

#[test]
fn lines_are_kept_in_order_with_the_unfinished_last_one() {
    let directory = tempfile::tempdir().unwrap();
    let book = open(directory.path());
    let (reader, mut writer) = pipe();
    writer.write_all(b"first\r\nzweite \xc3\xbc\n\n\xff\nlast").unwrap();
    drop(writer);
    block_on(capture(reader, source(Stream::Stdout, 1), book.clone(), pending())).unwrap();
    assert_eq!(messages(&book), ["first", "zweite ü", "", "\u{fffd}", "last"]);
    assert!(
        std::fs::read_dir(directory.path())
            .unwrap()
            .all(|entry| { entry.unwrap().file_name() == "current.jsonl" })
    );
}

#[test]
fn a_record_of_the_sdk_keeps_its_level_and_fields() {
    use bulkhead_ipc_protocol::{Level as Written, LogRecord, log_line};
    let directory = tempfile::tempdir().unwrap();
    let book = open(directory.path());
    let written = LogRecord {
        level: Written::Debug,
        target: "clinic".to_owned(),
        message: "booked\nat ten".to_owned(),
        fields: vec![("patient".to_owned(), "17".to_owned())],
    };
    let line = log_line::encode(&written);
    for stream in [Stream::Stderr, Stream::Stdout] {
        let (reader, mut writer) = pipe();
        writer.write_all(&line).unwrap();
        writer.write_all(b"plain\n").unwrap();
        drop(writer);
        block_on(capture(reader, source(stream, 1), book.clone(), pending())).unwrap();
    }
    let records = book.tail(9).unwrap();
    assert_eq!((records[0].level, records[0].message.as_str()), (Level::Debug, "booked\nat ten"));
    assert_eq!(records[0].target.as_deref(), Some("clinic"));
    assert_eq!(records[0].fields, written.fields);
    assert_eq!((records[1].level, records[1].message.as_str()), (Level::Warn, "plain"));
    assert!(records[2].message.starts_with('\u{1e}'), "standard output is only text");
}

#[test]
fn a_level_before_a_line_is_its_level() {
    let directory = tempfile::tempdir().unwrap();
    let book = open(directory.path());
    let text = "<0>gone\n<3>bad\n<4>odd\n<5>seen\n<6>said\n<7>step\n<8>eight\n<3x\n<3>\nplain\n";
    for stream in [Stream::Stdout, Stream::Stderr] {
        let (reader, mut writer) = pipe();
        writer.write_all(text.as_bytes()).unwrap();
        drop(writer);
        block_on(capture(reader, source(stream, 1), book.clone(), pending())).unwrap();
        let found = book.tail(10).unwrap();
        let found: Vec<(Level, &str)> =
            found.iter().map(|it| (it.level, it.message.as_str())).collect();
        let otherwise = if stream == Stream::Stdout { Level::Info } else { Level::Warn };
        let expected = [
            (Level::Error, "gone"),
            (Level::Error, "bad"),
            (Level::Warn, "odd"),
            (Level::Info, "seen"),
            (Level::Info, "said"),
            (Level::Debug, "step"),
            (otherwise, "<8>eight"),
            (otherwise, "<3x"),
            (Level::Error, ""),
            (otherwise, "plain"),
        ];
        assert_eq!(found, expected);
    }
}

#[test]
fn records_are_numbered_through_rotations_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    for generation in 1..4 {
        let book = open(directory.path());
        let (reader, mut writer) = pipe();
        let writing = std::thread::spawn(move || {
            let pad = "p".repeat(15_000);
            for n in 0..600 {
                writeln!(writer, "{n} {pad}").unwrap();
            }
        });
        let of = source(Stream::Stderr, generation);
        block_on(capture(reader, of, book.clone(), pending())).unwrap();
        writing.join().unwrap();
        let numbers: Vec<u64> =
            book.tail(usize::MAX).unwrap().iter().map(|record| record.sequence).collect();
        assert_eq!(numbers.last(), Some(&(600 * generation)));
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
    }
    let book = open(directory.path());
    let oldest = book.tail(usize::MAX).unwrap()[0].sequence;
    assert!(oldest > 1, "it was rotated");
    let after = |sequence| {
        let selection = Selection { after: Some(sequence), ..Selection::default() };
        book.select(&selection).unwrap()
    };
    assert_eq!((after(1799).records.len(), after(1799).missed), (1, 0));
    assert_eq!((after(1800).records.len(), after(1800).missed), (0, 0));
    assert_eq!(after(oldest - 1).missed, 0);
    assert_eq!(after(oldest - 3).missed, 2);
    assert_eq!(after(9000).records.len() as u64, 1801 - oldest, "it is of another log");
}

#[test]
fn records_are_selected() {
    let directory = tempfile::tempdir().unwrap();
    let book = open(directory.path());
    for (stream, text) in [(Stream::Stdout, "a\n<3>b\n<7>c\n"), (Stream::Stderr, "d\n<6>e\n")] {
        let (reader, mut writer) = pipe();
        writer.write_all(text.as_bytes()).unwrap();
        drop(writer);
        block_on(capture(reader, source(stream, 1), book.clone(), pending())).unwrap();
    }
    let found = |selection: Selection| -> String {
        let found = book.select(&selection).unwrap();
        found.records.into_iter().map(|record| record.message).collect()
    };
    let any = Selection::default;
    assert_eq!(found(any()), "abcde");
    assert_eq!(found(Selection { level: Some(Level::Warn), ..any() }), "bd");
    assert_eq!(found(Selection { level: Some(Level::Info), newest: Some(2), ..any() }), "de");
    assert_eq!(found(Selection { stream: Some(Stream::Stderr), ..any() }), "de");
    assert_eq!(found(Selection { newest: Some(0), after: Some(1), ..any() }), "");
    assert_eq!(found(Selection { newest: Some(2), ..any() }), "de");
    let page = book.select(&Selection { oldest: Some(2), after: Some(1), ..any() }).unwrap();
    assert_eq!((page.records.len(), page.more, page.up_to), (2, true, 3));
    let page = book.select(&Selection { oldest: Some(2), after: Some(3), ..any() }).unwrap();
    assert_eq!((page.records.len(), page.more, page.up_to), (2, false, 5));
    let time = book.tail(5).unwrap()[0].time.clone();
    assert!(found(Selection { since: Some(time.clone()), ..any() }).starts_with('a'));
    assert!(found(Selection { until: Some(time), ..any() }).starts_with('a'));
    assert_eq!(found(Selection { since: Some("2999".to_owned()), ..any() }), "");
    assert_eq!(found(Selection { until: Some("1999".to_owned()), ..any() }), "");
}

#[test]
fn each_record_goes_to_the_journal_with_its_fields() {
    use crate::journal::tests::{journal, next};
    let directory = tempfile::tempdir().unwrap();
    let (journal, socket) = journal(directory.path());
    let journal = Some(Journalled::new(Arc::new(journal), "clinic"));
    let logs = directory.path().join("logs");
    let book = Book::open(&logs, Rules { journal, ..Rules::default() }).unwrap();
    book.is_of("1.2.0");
    let (reader, mut writer) = pipe();
    writer.write_all(b"<3>bad\nodd\n").unwrap();
    drop(writer);
    block_on(capture(reader, source(Stream::Stderr, 7), book.clone(), pending())).unwrap();
    let first = next(&socket);
    for (name, value) in [
        ("MESSAGE", "bad"),
        ("PRIORITY", "3"),
        ("SYSLOG_IDENTIFIER", "bulkhead/clinic"),
        ("BULKHEAD_PLUGIN", "clinic"),
        ("BULKHEAD_VERSION", "1.2.0"),
        ("BULKHEAD_STREAM", "stderr"),
        ("BULKHEAD_GENERATION", "7"),
        ("BULKHEAD_SEQUENCE", "1"),
    ] {
        assert_eq!(first[name], value, "{name}");
    }
    assert_eq!(next(&socket)["PRIORITY"], "4");
    assert_eq!(book.counts().unjournalled, 0);
    drop(socket);
    let (reader, mut writer) = pipe();
    writer.write_all(b"unheard\n").unwrap();
    drop(writer);
    block_on(capture(reader, source(Stream::Stderr, 8), book.clone(), pending())).unwrap();
    assert_eq!(book.counts().unjournalled, 1);
    assert_eq!(messages(&book), ["bad", "odd", "unheard"], "the book has it");
}

#[test]
fn a_long_line_is_cut_into_records_and_nothing_of_it_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let book = open(directory.path());
    let (reader, mut writer) = pipe();
    let long = "x".repeat(40_000);
    writer.write_all(format!("{long}\nnext\n").as_bytes()).unwrap();
    drop(writer);
    block_on(capture(reader, source(Stream::Stderr, 1), book.clone(), pending())).unwrap();
    let records = book.tail(9).unwrap();
    assert_eq!(records.iter().map(|r| r.cut).collect::<Vec<_>>(), [true, true, false, false]);
    let joined: String = records[..3].iter().map(|r| r.message.as_str()).collect();
    assert_eq!(joined, long);
    assert_eq!(records[3].message, "next");
    assert_eq!(records[3].level, Level::Warn);
}

#[test]
fn the_end_of_the_plugin_ends_it_though_the_pipe_stays_open() {
    let directory = tempfile::tempdir().unwrap();
    let book = open(directory.path());
    let (reader, mut writer) = pipe();
    writer.write_all(b"held\n").unwrap();
    block_on(capture(reader, source(Stream::Stdout, 1), book.clone(), ready(()))).unwrap();
    writer.write_all(b"the pipe is still there\n").unwrap_err();
    assert_eq!(messages(&book), ["held"]);
}

#[test]
fn another_supervisor_goes_on_where_the_dead_one_was() {
    let directory = tempfile::tempdir().unwrap();
    let (reader, mut writer) = pipe();
    // The first one dies at any await: its spool and book stay as they are.
    for round in 0..20 {
        let book = open(directory.path());
        write!(writer, "line {round}\npart of ").unwrap();
        block_on(async {
            let copy = reader.try_clone().unwrap();
            let mut capturing =
                Box::pin(capture(copy, source(Stream::Stdout, 7), book.clone(), pending()));
            // A few turns, then it is dropped wherever it is.
            for _ in 0..round % 4 {
                tokio::select! { biased; _ = &mut capturing => panic!("the pipe is open"), () = tokio::task::yield_now() => {} }
            }
        });
    }
    drop(writer);
    let book = open(directory.path());
    block_on(capture(reader, source(Stream::Stdout, 7), book.clone(), pending())).unwrap();
    let mut expected = vec!["line 0".to_owned()];
    expected.extend((1..20).map(|round| format!("part of line {round}")));
    expected.push("part of ".to_owned());
    assert_eq!(messages(&book), expected);
}

#[test]
fn bytes_that_were_moved_but_not_written_down_are_found_again() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("stdout.3.0.spool"), "one\ntwo\nthr").unwrap();
    let book = open(directory.path());
    finish_spools(&book, Some(3)).unwrap();
    assert!(messages(&book).is_empty(), "it still runs");
    finish_spools(&book, None).unwrap();
    finish_spools(&book, None).unwrap();
    assert_eq!(messages(&book), ["one", "two", "thr"]);
}

#[test]
fn a_torn_line_of_the_book_is_written_again_whole() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("stdout.3.0.spool"), "one\ntwo\n").unwrap();
    let book = open(directory.path());
    finish_spools(&book, None).unwrap();
    drop(book);
    let path = directory.path().join("current.jsonl");
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 5]).unwrap();
    std::fs::write(directory.path().join("stdout.3.0.spool"), "one\ntwo\n").unwrap();
    let book = open(directory.path());
    finish_spools(&book, None).unwrap();
    assert_eq!(messages(&book), ["one", "two"]);
}

#[test]
fn the_disk_is_bounded_and_the_newest_lines_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let book = open(directory.path());
    let (reader, mut writer) = pipe();
    let writing = std::thread::spawn(move || {
        let pad = "p".repeat(1000);
        for n in 0..30_000 {
            writeln!(writer, "{n} {pad}").unwrap();
        }
    });
    block_on(capture(reader, source(Stream::Stdout, 1), book.clone(), pending())).unwrap();
    writing.join().unwrap();
    let total: u64 = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(total < 20 << 20, "{total} bytes on disk");
    let numbers: Vec<u32> = messages(&book)
        .iter()
        .map(|message| message.split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers.last(), Some(&29_999));
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "no gap, no double");
}
