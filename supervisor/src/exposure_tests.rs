use bulkhead_sandbox::probe::{Capability, State};
use bulkhead_sandbox::{Measured, Missing};

use super::*;
use crate::config::Ceilings;

const GUIDE: &str = include_str!("../../docs/security.md");

fn manifest(section: &str) -> Manifest {
    let text = format!("id = 'a'\nversion = '1.0.0'\n{section}");
    Manifest::parse(text.as_bytes(), Path::new("x")).unwrap()
}

fn of(section: &str) -> Exposure {
    Exposure::expected(&manifest(section), None)
}

fn names(exposure: &Exposure) -> Vec<&str> {
    exposure.reasons.iter().map(|reason| reason.name.as_str()).collect()
}

fn measured(section: &str, layers: &[(Layer, bool, Option<&str>)]) -> Exposure {
    let layers = layers.iter().map(|&(layer, enforced, stood_in_by)| Measured {
        layer,
        asked: String::new(),
        measured: String::new(),
        enforced,
        missing: (!enforced).then(|| Missing {
            layer,
            why: String::new(),
            remedy: String::new(),
            stood_in_by: stood_in_by.map(str::to_owned),
        }),
    });
    Exposure::measured(&manifest(section), &Enforcement { layers: layers.collect() })
}

/// Bounds on disks, without which nothing is quite 0.
const BOUNDED: &str = "[limits]\nio_read = '1G'\nio_write = '1M'\n";

#[test]
fn a_plugin_that_asks_for_nothing_has_none_in_a_whole_compartment() {
    assert_eq!(of(BOUNDED), Exposure { score: Score(0), measured: false, reasons: vec![] });
    let whole = measured(BOUNDED, &[(Layer::Seccomp, true, None), (Layer::Memory, true, None)]);
    assert_eq!((whole.score, whole.measured), (Score(0), true));
}

#[test]
fn a_bound_on_disks_is_missed_and_the_administrators_is_one() {
    for section in ["", "[limits]\nio_read = '1M'", "[limits]\nio_read = '1M'\nio_write = '2G'"] {
        assert_eq!(
            (names(&of(section)), of(section).score),
            (vec!["disks"], Score(1)),
            "{section}"
        );
    }
    let mut filled = manifest("");
    let ceilings: Ceilings = toml::from_str("io_read = '1G'\nio_write = '1M'").unwrap();
    ceilings.fill(&mut filled.limits);
    assert_eq!(Exposure::expected(&filled, None).score, Score(0));
}

#[test]
fn a_share_of_more_than_two_cpus_is_hardly_a_limit() {
    for (share, score) in [("200%", 0), ("201%", 3), ("100000%", 3)] {
        let exposure = of(&format!("{BOUNDED}cpu = '{share}'"));
        assert_eq!(exposure.score, Score(score), "{share}: {exposure:?}");
    }
}

#[test]
fn each_grant_is_a_reason_and_the_worst_is_first() {
    let exposure = of("[network]\nhosts = ['a.example:1', 'b.example:2']\n\
         [sandbox]\nprofile = 'program'\nproc = true\nallow_syscalls = ['getrusage']\n\
         read = ['/usr/share/zoneinfo', '/home']\nwrite = ['/srv/x/y', '/srv']");
    assert_eq!(
        names(&exposure),
        [
            "write-broad",
            "profile",
            "read-broad",
            "write",
            "host",
            "read",
            "syscall",
            "proc-visible",
            "disks"
        ]
    );
    assert!(exposure.reasons[0].reason.ends_with(": /srv"), "{exposure:?}");
    assert_eq!(exposure.score.to_string(), "6.8");
    let ports = of("[network]\nconnect = [80, 443]\nbind = [8080]");
    assert_eq!(names(&ports), ["connect", "network", "bind", "disks"]);
    let wide = of("[limits]\nmemory = '16G'\npids = 4096\nstorage = '1T'");
    assert_eq!((names(&wide), wide.score), (vec!["limits", "disks"], Score(10)));
}

#[test]
fn only_what_can_be_several_is_listed_in_its_reason() {
    for (section, end) in [
        ("[network]\nconnect = [1]", "only Landlock holds it to its ports"),
        ("[sandbox]\nprofile = 'program'", "many more system calls"),
        ("[network]\nconnect = [1, 2]", "this one included: 1, 2"),
    ] {
        let reasons = of(section).reasons;
        assert!(reasons.iter().any(|it| it.reason.ends_with(end)), "{end:?} in {reasons:?}");
    }
}

#[test]
fn a_layer_that_is_missing_is_a_reason_and_half_of_one_where_something_stands_in() {
    let bare =
        measured("", &[(Layer::Seccomp, false, None), (Layer::Memory, false, Some("rlimit"))]);
    assert_eq!(names(&bare), ["seccomp", "memory", "disks"]);
    assert_eq!(bare.score, Score(24));
}

#[test]
fn more_grants_and_fewer_layers_never_make_it_less_and_ten_is_the_most() {
    let mut before = Score(0);
    for section in ["", "[sandbox]\nread = ['/srv/a']", "[sandbox]\nread = ['/srv/a', '/srv/b']"] {
        let score = of(section).score;
        assert!(score >= before, "{section}");
        before = score;
    }
    let many: Vec<String> = (1..60).map(|port| port.to_string()).collect();
    let everything = format!(
        "[network]\nconnect = [{}]\n[sandbox]\nprofile = 'program'\nwrite = ['/srv', '/opt', '/home']",
        many.join(",")
    );
    let none: Vec<_> = [Layer::Uid, Layer::Seccomp, Layer::PrivateRoot, Layer::LandlockFiles]
        .map(|layer| (layer, false, None))
        .to_vec();
    assert_eq!(measured(&everything, &none).score, WORST);
    assert!(of(&everything).score < WORST);
}

/// One on which nothing is missing but these layers.
fn machine(missing: &[Layer]) -> Machine {
    let missing = missing.iter().map(|&layer| Capability {
        layer,
        state: State::Missing,
        detail: String::new(),
        remedy: None,
        stood_in_by: None,
    });
    Machine {
        kernel: String::new(),
        architecture: String::new(),
        uid: 0,
        landlock_abi: 6,
        layers: missing.collect(),
    }
}

#[test]
fn what_is_expected_is_weighed_as_what_is_measured() {
    let mut machine = machine(&[Layer::Memory, Layer::Pids, Layer::LandlockNetwork]);
    machine.layers[0].stood_in_by = Some("RLIMIT_DATA".to_owned());
    let expected = |section| Exposure::expected(&manifest(section), Some(&machine)).reasons;
    let layers = [(Layer::Memory, false, Some("RLIMIT_DATA 256 MiB")), (Layer::Pids, false, None)];
    assert_eq!(expected(""), measured("", &layers).reasons);
    // Before ABI 4 there are no ports, which an empty network covers and the machine's own does not.
    machine.landlock_abi = 3;
    let expected = |section| Exposure::expected(&manifest(section), Some(&machine)).reasons;
    assert_eq!(expected(""), measured("", &layers).reasons);
    // Who asks for a bound that is not there is no worse than who does not.
    machine.layers.extend(self::machine(&[Layer::Io]).layers);
    let expected = |section| Exposure::expected(&manifest(section), Some(&machine)).reasons;
    let bounded = [layers[0], layers[1], (Layer::Io, false, None)];
    let section = "[limits]\nio_read = '1M'";
    assert_eq!(expected(section), measured(section, &bounded).reasons);
    let exposure = |section| Exposure::expected(&manifest(section), Some(&machine)).score;
    assert_eq!(exposure(BOUNDED), exposure(""));
    let section = "[network]\nconnect = [80]";
    let layers = [layers[0], layers[1], (Layer::LandlockNetwork, false, None)];
    assert_eq!(expected(section), measured(section, &layers).reasons);
}

#[test]
fn what_the_policy_does_not_involve_does_not_count() {
    let machine = machine(&[Layer::NetNamespace, Layer::Proc, Layer::Io, Layer::Audit]);
    let expected = |section| Exposure::expected(&manifest(section), Some(&machine));
    assert_eq!(names(&expected("")), ["net-namespace", "disks"]);
    assert_eq!(names(&expected("[network]\nconnect = [80]")), ["network", "connect", "disks"]);
    assert_eq!(
        names(&expected("[sandbox]\nproc = true")),
        ["net-namespace", "proc", "proc-visible", "disks"]
    );
}

#[test]
fn a_bound_holds_exactly() {
    let id = "a".parse().unwrap();
    let exposure = of(&format!("{BOUNDED}[sandbox]\nread = ['/srv/a']"));
    assert_eq!(exposure.score, Score(3));
    exposure.check(&id, "0.3".parse().unwrap()).unwrap();
    let refused = exposure.check(&id, "0.2".parse().unwrap()).unwrap_err();
    assert_eq!(refused.code, Code::ExposureTooHigh);
    assert_eq!(refused.details["score"], 0.3);
    assert_eq!(refused.details["maximum"], 0.2);
    assert_eq!(refused.details["reasons"][0]["name"], "read");
    assert!(refused.message.contains("/srv/a"), "{refused}");
}

#[test]
fn a_score_is_a_number_from_0_to_10_with_one_decimal() {
    for (text, tenths) in [("0", 0), ("4", 40), ("4.0", 40), ("0.3", 3), ("10", 100)] {
        assert_eq!(text.parse(), Ok(Score(tenths)), "{text}");
    }
    for bad in ["-1", "10.1", "0.25", "NaN", "inf", "", "four"] {
        assert!(bad.parse::<Score>().unwrap_err().contains("from 0 to 10"), "{bad}");
    }
}

/// The rows of the guide's table beneath a heading, without its head.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let section = GUIDE.split_once(heading).unwrap().1;
    let lines = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let lines = lines.take_while(|line| line.starts_with('|'));
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().trim_matches('`').to_owned())
            .collect()
    };
    lines.map(cells).collect()
}

#[test]
fn the_guide_has_the_weights_of_the_code() {
    let of_layer = |layer: Layer| {
        let name = layer.name().to_owned();
        vec![name, Score(weight(layer)).to_string(), layer.purpose().to_owned()]
    };
    let mut layers: Vec<_> = LAYERS.into_iter().filter(|layer| weight(*layer) > 0).collect();
    layers.sort_by_key(|layer| (std::cmp::Reverse(weight(*layer)), *layer));
    let layers: Vec<Vec<String>> = layers.into_iter().map(of_layer).collect();
    assert_eq!(rows("### Layers"), layers, "docs/security.md, Layers:\n{}", table(&layers));
    let kinds: Vec<Vec<String>> = KINDS
        .iter()
        .map(|kind| {
            let (each, most) = (Score(kind.each).to_string(), Score(kind.most).to_string());
            vec![kind.name.to_owned(), each, most, kind.reason.to_owned(), kind.remedy.to_owned()]
        })
        .collect();
    assert_eq!(rows("### Grants"), kinds, "docs/security.md, Grants:\n{}", table(&kinds));
}

/// As the guide has them, to be copied there.
fn table(rows: &[Vec<String>]) -> String {
    let lines: Vec<String> = rows.iter().map(|row| format!("| {} |", row.join(" | "))).collect();
    lines.join("\n")
}

/// [`weight`] knows each of them, by its match; this is what the guide is held against.
const LAYERS: [Layer; 25] = [
    Layer::Uid,
    Layer::Groups,
    Layer::UserNamespace,
    Layer::PidNamespace,
    Layer::MountNamespace,
    Layer::IpcNamespace,
    Layer::UtsNamespace,
    Layer::NetNamespace,
    Layer::PrivateRoot,
    Layer::Proc,
    Layer::Cgroup,
    Layer::Memory,
    Layer::Pids,
    Layer::Cpu,
    Layer::Io,
    Layer::OpenFiles,
    Layer::FileSize,
    Layer::OomScore,
    Layer::Capabilities,
    Layer::NoNewPrivs,
    Layer::LandlockFiles,
    Layer::LandlockNetwork,
    Layer::LandlockScopes,
    Layer::Seccomp,
    Layer::Audit,
];
