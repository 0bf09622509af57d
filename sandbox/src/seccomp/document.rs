//! `docs/seccomp.md`, made from the lists. `BLESS=1 cargo test -p bulkhead-sandbox document` writes it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

use super::*;

const INTRODUCTION: &str = "\
# System calls

<!-- Made from sandbox/src/seccomp/lists. Write it again with:
     BLESS=1 cargo test -p bulkhead-sandbox document -->

Every compartment has a seccomp filter: an allow-list of system calls, chosen by the policy's `profile` and
composed of the lists below. A call that is not allowed is answered in one of three ways:

- by the process's **death** (`SIGSYS`), which is the rule;
- by an **error**, where a line says so: ordinary runtimes try the call and go on without it;
- by `ENOSYS`, when its number is newer than Bulkhead's table, so that a newer libc falls back.

The supervisor, which is no compartment of a plugin's, puts itself under the filter of the column `supervisor`.
There a call of which nothing is said is refused by `EPERM` instead, as a library may try it on a day that no test
has seen; what is on the [never-list](#never) kills, and so does what would start a program or a process:
EXECUTING.

Calls by another architecture's entry (`int 0x80`) and those of the x32 ABI always kill.

A policy may name further calls (`--allow SYSCALL`, or the manifest's `[sandbox]`). A call whose arguments are
checked anywhere below is added with those checks, any other for all arguments. The [never-list](#never) holds
for every policy.

Memory is never writable and executable at once. Interpreters that compile at run time into such memory do not
run, whatever the profile: the JVM, and Node.js unless started with `--jitless`. Those that write first and then
make the memory executable do.

An argument rule sees numbers only, never what a pointer leads to. Which files a call reaches, the private root
and Landlock decide; which ports, Landlock and the network namespace.
";

fn render() -> String {
    let mut page = INTRODUCTION.replace("EXECUTING", &names(lists::EXECUTING));
    page.push_str(
        "\n## Profiles\n\n`init` is the filter of pid 1 of each compartment.\n\n| list |",
    );
    for profile in Profile::ALL {
        write!(page, " `{profile}` |").unwrap();
    }
    page.push_str(" init | supervisor |\n|---|---|---|---|---|---|\n");
    let lists = every_list();
    for list in &lists {
        write!(page, "| [{}](#{}) |", list.name, list.name.replace(' ', "-")).unwrap();
        for profile in Profile::ALL {
            page.push_str(mark(lists::of(profile), list));
        }
        page.push_str(mark(lists::INIT, list));
        page.push_str(mark(lists::SUPERVISOR, list));
        page.push('\n');
    }
    for list in lists {
        write!(page, "\n## {}\n\n{}\n\n", list.name, list.purpose).unwrap();
        page.push_str("| calls | answer | given | why |\n|---|---|---|---|\n");
        for line in list.lines {
            let verdict = match line.verdict {
                Verdict::Allow => "allowed".to_owned(),
                Verdict::When(clauses) => format!("allowed when {}", alternatives(clauses)),
                Verdict::Answer(errno) => format!("otherwise the error `{}`", errno.name),
            };
            let given = condition(line.given);
            writeln!(page, "| {} | {verdict} | {given} | {} |", names(line.calls), line.reason)
                .unwrap();
        }
    }
    page.push_str(
        "\n## never\n\nCalls that no policy can add.\n\n| calls | unless | why |\n|---|---|---|\n",
    );
    for never in lists::NEVER {
        let unless = never.unless.map(condition).unwrap_or_default();
        writeln!(page, "| {} | {unless} | {} |", names(never.calls), never.reason).unwrap();
    }
    page
}

/// The cell that says whether a composition has `list`.
fn mark(composed: &[&List], list: &List) -> &'static str {
    if composed.iter().any(|theirs| theirs.name == list.name) { " yes |" } else { " |" }
}

/// Each list once, in the order in which the broadening profiles bring them.
fn every_list() -> Vec<&'static List> {
    let mut seen = BTreeSet::new();
    let all = Profile::ALL.into_iter().flat_map(lists::of).copied();
    let ours = [lists::INIT, lists::SUPERVISOR].into_iter().flatten().copied();
    all.chain(ours).filter(|list| seen.insert(list.name)).collect()
}

fn names(calls: &[&str]) -> String {
    calls.iter().map(|call| format!("`{call}`")).collect::<Vec<_>>().join(" ")
}

fn alternatives(clauses: &[Clause]) -> String {
    if let Some(values) = values(clauses) {
        return format!("`{}` is one of {}", clauses[0][0].argument, values.join(", "));
    }
    clauses.iter().map(|clause| conjunction(clause)).collect::<Vec<_>>().join("; or ")
}

/// The values of an argument, where all that several clauses ask is that it is one of them.
fn values(clauses: &[Clause]) -> Option<Vec<&'static str>> {
    let value = |clause: &Clause| match clause {
        [Check { index, test: Test::Is(_), shown, .. }] if *index == clauses[0][0].index => {
            Some(shown.1)
        }
        _ => None,
    };
    (clauses.len() > 1).then(|| clauses.iter().map(value).collect())?
}

fn conjunction(checks: &[Check]) -> String {
    let checks = checks.iter().map(|check| {
        let (before, constant, after) = check.shown;
        // In a table's cell a bar must be escaped, and ours stand between flags.
        format!("`{}` {before}{constant}{after}", check.argument).replace('|', "\\|")
    });
    checks.collect::<Vec<_>>().join(" and ")
}

fn condition(given: Given) -> &'static str {
    match given {
        Given::Always => "",
        Given::TruncateGoverned => "Landlock ABI ≥ 3",
        Given::TruncateUngoverned => "Landlock ABI < 3",
        Given::SignalsConfined => "a pid namespace, or Landlock ABI ≥ 6",
        Given::ThreadSignalsConfined => "a pid namespace, or a uid of its own, or Landlock ABI ≥ 6",
        Given::PathSocketsConfined => {
            "a private root that shows no place of the machine, or Landlock ABI ≥ 9"
        }
        Given::LocalSocketsConfined => {
            "a private root that shows no place of the machine, or Landlock ABI ≥ 9; and a network namespace, or Landlock ABI ≥ 6"
        }
        Given::Tcp => "TCP granted",
        Given::Udp => "UDP granted",
        Given::Internet => "TCP or UDP granted",
    }
}

#[test]
fn the_committed_page_is_that_of_the_lists() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/seccomp.md");
    let page = render();
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(
        committed == page,
        "docs/seccomp.md is stale: write it with `BLESS=1 cargo test -p bulkhead-sandbox document`"
    );
}
