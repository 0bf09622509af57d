//! What the documents promise and name a test for (`[T:name]`) has that test.

#![allow(clippy::unwrap_used, reason = "to fail here is to fail the test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files below with that ending; not those of a build.
fn files(below: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(below).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && name != "target" && !name.as_encoded_bytes().starts_with(b".") {
            files(&path, ending, found);
        } else if kind.is_file() && path.extension().is_some_and(|it| it == ending) {
            found.push(path);
        }
    }
}

/// The functions that are tests: those beneath `#[test]`.
fn tests() -> BTreeSet<String> {
    let mut sources = Vec::new();
    files(&root(), "rs", &mut sources);
    let mut found = BTreeSet::new();
    for path in sources {
        let text = std::fs::read_to_string(path).unwrap().replace("#[tokio::test", "#[test]");
        for piece in text.split("#[test]").skip(1) {
            let name = piece.split_once("fn ").and_then(|(_, rest)| rest.split_once('('));
            found.extend(name.map(|(name, _)| name.to_owned()));
        }
    }
    found
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let (tests, mut documents, mut named) = (tests(), Vec::new(), 0);
    files(&root().join("docs"), "md", &mut documents);
    for path in documents {
        let text = std::fs::read_to_string(&path).unwrap();
        for piece in text.split("T:").skip(1) {
            let name: String =
                piece.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            // A time of day, as in 2026-03-09T10:00, is none.
            if !name.contains('_') {
                continue;
            }
            named += 1;
            assert!(tests.contains(&name), "{}: there is no test {name}", path.display());
        }
    }
    assert!(named > 50, "{named}: the mark has changed, and this test must follow it");
}

/// Whether a row names a test: `[T:name]` or `module::name`.
fn names_a_test(line: &str) -> bool {
    let word = |text: &str| {
        !text.is_empty()
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let marked = line.split("T:").skip(1).any(|rest| rest.get(..1).is_some_and(word));
    marked
        || line
            .split('`')
            .filter_map(|quoted| quoted.split_once("::"))
            .any(|(module, name)| word(module) && word(name))
}

/// The first cells of the rows of tables, each once: an attack is made in several compartments.
fn attempts<'a>(rows: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    rows.filter_map(|line| line.strip_prefix("| "))
        .filter_map(|line| line.split(" | ").next())
        .filter(|first| !matches!(*first, "attempt" | "attack") && seen.insert(*first))
        .collect()
}

/// The sections of the document that have the rows of another.
fn sections_of<'a>(tables: &'a str, document: &str) -> impl Iterator<Item = &'a str> {
    let mark = format!("({document})");
    tables
        .split("\n## ")
        .filter(move |section| section.lines().next().is_some_and(|line| line.ends_with(&mark)))
        .flat_map(str::lines)
}

/// Where all that is promised has to hold.
const WHOLE: &str = "6.12-root";

/// What may lack there, by a part of the cell or of the reason of a skip, and why.
const LACKING: [(&str, &str); 2] = [
    ("| x32 | `ENOSYS`", "the kernel is built without that interface"),
    ("Landlock ABI 7", "what Landlock denies is told from kernel 6.15 on"),
];

/// How a cell says that it was held, before what it says of skips.
const HELD: [&str; 3] = ["held", "on the host", "held, in part on the host"];

/// What is wrong with `containment.md`, given the other two documents and the environments that it must have.
fn faults(found: &str, attacks: &str, security: &str, environments: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    let (head, tables) = found.split_once("\n## ").unwrap_or((found, ""));
    let Some((tables, reasons)) = tables.split_once("\n## Why a test was skipped\n") else {
        return vec!["there are no reasons why tests were skipped".to_owned()];
    };
    for environment in environments {
        let run = head.lines().find(|line| line.starts_with(&format!("| {environment} |")));
        if run.is_none_or(|line| line.contains("and changes") || line.contains("no commit")) {
            faults.push(format!("{environment} was not run, at a commit without changes"));
        }
    }
    if attempts(sections_of(tables, "attacks.md")) != attempts(attacks.lines()) {
        faults.push("the attempts are not those of attacks.md".to_owned());
    }
    let tested = security.lines().filter(|line| names_a_test(line));
    if attempts(sections_of(tables, "security.md")) != attempts(tested) {
        faults.push("the attempts are not those of security.md".to_owned());
    }
    let reason = |number: &str| {
        reasons
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{number}. ")).map(str::to_owned))
    };
    let may_lack = |text: &str| LACKING.iter().any(|(part, _)| text.contains(part));
    let mut heads: Vec<&str> = Vec::new();
    for line in tables.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if matches!(cells[0], "attempt" | "attack") {
            let columns = cells.iter().filter(|cell| environments.contains(cell));
            if !columns.eq(environments.iter()) {
                faults.push(format!("these are not all environments: {line}"));
            }
            heads = cells;
            continue;
        }
        if cells.len() != heads.len() {
            faults.push(format!("cells are missing: {line}"));
            continue;
        }
        for (head, cell) in heads.iter().zip(&cells).skip(1) {
            // Elsewhere any reason will do.
            let explained = |text: &str| *head != WHOLE || may_lack(text);
            let held = match cell.split_once("skipped: ") {
                _ if !environments.contains(head) => !cell.is_empty() && !cell.contains("FAILED"),
                Some((rest, numbers)) => {
                    let rest = rest.strip_suffix(", in part ");
                    let mut numbers = numbers.split(", ").map(reason);
                    (cell.starts_with("skipped: ") || rest.is_some_and(|rest| HELD.contains(&rest)))
                        && numbers.all(|it| it.is_some_and(|it| explained(&it)))
                }
                None => {
                    let control = cell.strip_prefix("no control: ");
                    HELD.contains(cell)
                        || control.is_some_and(|it| explained(&format!("| {} | {it}", cells[0])))
                }
            };
            if !held {
                faults.push(format!("{head}: {cell:?} of {}", cells[0]));
            }
        }
    }
    faults
}

/// The document has what the last `scripts/test --attacks` found: it is made again, not mended, where this fails.
#[test]
fn each_attempt_was_made_in_each_environment_and_held_or_has_its_reason() {
    let page = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let lists = page("scripts/test.d/attacks.sh");
    let environments = lists.split_once("\nattack_environments=(").unwrap().1;
    let environments: Vec<&str> =
        environments.split_once(')').unwrap().0.split_whitespace().collect();
    assert!(environments.len() >= 5 && environments.contains(&WHOLE), "{environments:?}");
    let (attacks, security) = (page("docs/attacks.md"), page("docs/security.md"));
    assert!(attempts(attacks.lines()).len() > 50);
    let faults = faults(&page("docs/containment.md"), &attacks, &security, &environments);
    assert_eq!(faults, [""; 0], "made again by scripts/test --attacks");
}

#[test]
fn a_document_that_proves_less_than_it_has_to_is_seen() {
    const ATTACKS: &str = "| attempt | what comes of it | tests |\n|---|---|---|\n\
        | a bomb | held | [T:a_bomb_is_held] |\n| attack | to |\n|---|---|\n| x32 | call |\n";
    const SECURITY: &str = "| what | test |\n|---|---|\n| reads | `denials::reads` |\n\
        | writes | `denials::writes` |\n| sends | `denials::sends` |\n\
        | more time | nothing |\n";
    const FOUND: &str = "# Containment\n\n| environment | at commit |\n|---|---|\n\
        | 6.12-root | `abc` |\n| 6.1-root | `abc` |\n\n\
        ## Bombs (attacks.md)\n\n| attempt | 6.12-root | 6.1-root |\n|---|---|---|\n\
        | a bomb | held | skipped: 2 |\n\n\
        ## Denials (security.md)\n\n| attempt | 6.12-root | 6.1-root |\n|---|---|---|\n\
        | reads | held, in part skipped: 1 | on the host |\n\
        | writes | held, in part on the host | on the host, in part skipped: 2 |\n\
        | sends | held, in part on the host, in part skipped: 1 | held |\n\n\
        ## Layer by layer (attacks.md)\n\n| attack | to | 6.12-root | 6.1-root | a layer off |\n\
        |---|---|---|---|---|\n| x32 | call | no control: `ENOSYS` | held | seccomp |\n\n\
        ## Why a test was skipped\n\n1. it takes Landlock ABI 7\n2. needs root\n";
    let both = ["6.12-root", "6.1-root"];
    assert_eq!(faults(FOUND, ATTACKS, SECURITY, &both), [""; 0]);
    for (from, to) in [
        ("| 6.12-root | `abc` |", "| 6.12-root | `abc and changes` |"),
        ("| 6.1-root | `abc` |\n", ""),
        ("| attempt | 6.12-root | 6.1-root |", "| attempt | 6.12-root |"),
        ("| a bomb | held | skipped: 2 |", "| a bomb | held |"),
        ("| a bomb | held |", "| a bomb | FAILED: `a_bomb_is_held` |"),
        ("| a bomb | held |", "| a bomb | skipped: 2 |"),
        ("| a bomb | held | skipped: 2 |", "| a bomb | held | skipped: 3 |"),
        ("| a bomb | held | skipped: 2 |", "| a bomb | held | FAILED: `a_bomb_is_held` |"),
        ("| a bomb | held |", "| a bomb | |"),
        ("| a bomb | held | skipped: 2 |\n", ""),
        ("| reads | held", "| more time | held"),
        ("| writes | held, in part on the host", "| writes | held, in part"),
        ("| writes | held, in part on the host", "| writes | in part on the host"),
        ("| writes | held, in part on the host", "| writes | held, in part on the hosts"),
        ("on the host, in part skipped: 2", "on the host, in part skipped: 3"),
        ("on the host, in part skipped: 2", "on the host, skipped: 2"),
        ("on the host, in part skipped: 2", "in part on the host, in part skipped: 2"),
        ("in part on the host, in part skipped: 1", "in part on the host, in part skipped: 2"),
        ("no control: `ENOSYS`", "no control: `EPERM`"),
        ("no control: `ENOSYS`", "FAILED: not tried"),
        ("| x32 | call | no control", "| mount | call | no control"),
        ("1. it takes Landlock ABI 7", "1. no disk is there"),
    ] {
        assert!(FOUND.contains(from), "{from}");
        let spoilt = FOUND.replace(from, to);
        assert_ne!(faults(&spoilt, ATTACKS, SECURITY, &both), [""; 0], "{from} → {to}");
    }
    let more = ["6.12-root", "6.1-root", "newest-root"];
    assert_ne!(faults(FOUND, ATTACKS, SECURITY, &more), [""; 0], "an environment is missing");
}

#[test]
fn a_cell_says_which_of_its_tests_were_made_on_the_host_only() {
    let below = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = below.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("host/results.tsv", "pass\t\t\ta\npass\t\t\tb\nskip\t\t\tc\tno disk\n");
    write("there/results.tsv", "pass\t\t\tb\nskip\t\t\td\tno root\n");
    let cells = [
        ("T:a", "on the host"),
        ("T:b", "held"),
        ("T:a T:b", "held, in part on the host"),
        ("T:a T:d", "on the host, in part skipped: 1"),
        ("T:b T:d", "held, in part skipped: 1"),
        ("T:a T:b T:c", "held, in part on the host, in part skipped: 2"),
        ("T:c T:d", "skipped: 2, 1"),
        ("T:a T:z", "FAILED: `z`"),
    ];
    let rows: Vec<String> =
        cells.iter().map(|(names, _)| format!("| {names} | what |\n")).collect();
    write("attacks.md", &format!("## All\n\n{}", rows.concat()));
    let told = std::process::Command::new("awk")
        .args(["-v", "environments=there", "-v", "layers_off=", "-v"])
        .arg(format!("directory={}", below.path().display()))
        .arg("-f")
        .arg(root().join("scripts/test.d/containment.awk"))
        .arg(below.path().join("attacks.md"))
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    for (names, cell) in cells {
        assert!(told.contains(&format!("| {names} | {cell} |\n")), "{names}: {cell}: {told}");
    }
}

/// As it is written outside: `NotFound` is `NOT_FOUND`.
fn screaming(name: &str) -> String {
    let mut all = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            all.push('_');
        }
        all.push(letter.to_ascii_uppercase());
    }
    all
}

#[test]
fn the_page_of_the_api_has_every_code_and_every_event() {
    let page = std::fs::read_to_string(root().join("docs/api.md")).unwrap();
    let text = std::fs::read_to_string(root().join("supervisor/src/failure.rs")).unwrap();
    let (_, codes) = text.split_once("pub(crate) enum Code {\n").unwrap();
    let (codes, _) = codes.split_once("\n}\n").unwrap();
    let codes = codes.lines().filter_map(|line| line.trim().strip_suffix(','));
    let codes: Vec<String> = codes.filter(|name| !name.contains(' ')).map(screaming).collect();
    assert!(codes.len() > 30, "{codes:?}: the list has changed, and this test must follow it");
    let (mut sources, mut events) = (Vec::new(), BTreeSet::new());
    files(&root().join("supervisor/src/supervise"), "rs", &mut sources);
    sources.retain(|path| !path.to_string_lossy().ends_with("tests.rs"));
    for path in sources {
        let text = std::fs::read_to_string(path).unwrap();
        // What only tests emit comes after this.
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
        for piece in text.split("\"plugin:").skip(1) {
            let name = piece.split('"').next().unwrap();
            if !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == ':') {
                events.insert(format!("plugin:{name}"));
            }
        }
    }
    assert!(events.len() > 15, "{events:?}");
    for name in codes.iter().chain(&events) {
        assert!(page.contains(&format!("`{name}`")), "docs/api.md does not speak of {name}");
    }
}
