use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::SCHEMA;
use crate::failure::{Code, Failure};
use crate::manifest::{Manifest, Schema};

const MINIMAL: &str = "id = 'a'\nversion = '1.0.0'\n";

fn document() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

fn parse(text: &str) -> Result<Manifest, Failure> {
    Manifest::parse(text.as_bytes(), Path::new("plugin.toml"))
}

/// Whether the published schema takes that text; what is no TOML at all it never sees.
fn fits(text: &str) -> Result<(), String> {
    let value: Value = toml::from_str(text).map_err(|error| error.to_string())?;
    Schema::try_from(document()).unwrap().check(&value).map_err(|fault| fault.to_string())
}

/// The manifests in a page or a file.
fn manifests(text: &str) -> Vec<String> {
    if text.starts_with("id = ") {
        return vec![text.to_owned()];
    }
    let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.contains("id = ")).map(str::to_owned).collect()
}

#[test]
fn every_good_manifest_is_one_for_both() {
    let mut seen = 0;
    for text in [
        include_str!("../../../../docs/manifest.md"),
        include_str!("../../../../docs/plugin-authors.md"),
        include_str!("../../../../examples/appointments/plugin.toml"),
        include_str!("../../../../examples/appointment-scheduler/plugin.toml"),
        crate::manifest::tests::EVERYTHING.trim_start(),
        MINIMAL,
    ] {
        for manifest in manifests(text) {
            parse(&manifest).unwrap();
            fits(&manifest).unwrap_or_else(|why| panic!("{why} in\n{manifest}"));
            seen += 1;
        }
    }
    assert!(seen >= 6, "only {seen} manifests were found");
    for section in [
        "api = '*'",
        "api = '>=1.0, <3'",
        "api = '=1.2.3-rc.1'",
        "api = '~1'",
        "entry = 'bin/..a'",
        "entry = '.hidden/...'",
        "homepage = ''",
        "name = 'Terminplanung für Ärzte'",
        "permissions = []",
        "[limits]\nmemory = 67108864\nstorage = '2GiB'\ncpu = '0150%'",
        "[network]\nconnect = [1, 65535]",
        "[network]\nhosts = ['[2001:db8::7]:443', '192.0.2.7:0080', 'a-b.c:1']",
        "[sandbox]\nread = ['/a/..b/.c']\ntmp = 4096",
        "[[schedule]]\nmethod = 'm'\ncron = '*/15 0-5,7 1 12 7'",
        "[[schedule]]\nmethod = 'm'\ncron = '* * * * *'\nname = 'n'\njitter = '5m'\ntimeout = '1h'",
        "[events]\nsubscribes = ['*', 'plugin:enabled']",
        "[lifecycle]\nstop_timeout = '50m3s5ms'\ninit_timeout = '1d2h3m4s5ms'\nhealth_interval = '0s'",
    ] {
        let text = format!("{MINIMAL}{section}");
        parse(&text).unwrap();
        fits(&text).unwrap_or_else(|why| panic!("{why} in\n{section}"));
    }
}

#[test]
fn every_bad_manifest_is_none_for_both() {
    for section in [
        "homepage = 'javascript:alert(1)'",
        "name = \"a\\u001b[2J\"",
        "description = \"a\\nb\"",
        "author = 7",
        "entry = '../../bin/sh'",
        "entry = '/bin/sh'",
        "entry = 'bin//a'",
        "entry = './a'",
        "entry = ''",
        "api = 'one'",
        "api = 1",
        "api = '1.2.3.4'",
        "permissions = ['read']",
        "permissions = ['a:b', 'a:b']",
        "permissions = 'a:b'",
        "permissions = ['a:*']",
        "permisions = []",
        "dependencies = { 'A' = '1' }",
        "dependencies = { b = '?' }",
        "dependencies = ['b']",
        "[provides.x]\nversion = '1'",
        "[provides.x]",
        "[provides.'x/y']\nversion = '1.0.0'",
        "[provides.x]\nversion = '1.0.0'\n[provides.x.methods]\n'a b' = {}",
        "[provides.x]\nversion = '1.0.0'\n[provides.x.methods]\na = { permission = 'b' }",
        "[config]\nschema = 'object'",
        "[config]\ndefaults = []",
        "[config]\nvalues = {}",
        "[limits]\nmemry = '64M'",
        "[limits]\nmemory = '64Q'",
        "[limits]\nmemory = '64MB'",
        "[limits]\nmemory = 0",
        "[limits]\nmemory = -1",
        "[limits]\nstorage = '0K'",
        "[limits]\ncpu = '20'",
        "[limits]\ncpu = '0%'",
        "[limits]\ncpu = '100001%'",
        "[limits]\npids = 0",
        "[limits]\npids = '3'",
        "[limits]\nopen_files = 15",
        "[limits]\nopen_files = 65537",
        "[limits]\nio_read = '10MB'",
        "[limits]\nio_write = 65535",
        "[limits]\nio_read_ops = 15",
        "[limits]\nio_write_ops = 1000000001",
        "[network]\nhosts = ['x']",
        "[network]\nhosts = ['-a:1']",
        "[network]\nhosts = ['a:0']",
        "[network]\nconnect = [0]",
        "[network]\nbind = [65536]",
        "[sandbox]\nprofile = 'none'",
        "[sandbox]\nread = ['relative']",
        "[sandbox]\nwrite = ['/']",
        "[sandbox]\nproc = 'yes'",
        "[[schedule]]\nmethod = 'm'\ncron = '* * *'",
        "[[schedule]]\nmethod = 'm'\ncron = '@daily x x x x'",
        "[[schedule]]\nmethod = 'm'\ncron = '* * * * *'\ntimezone = 'Mars/1'",
        "[[schedule]]\nmethod = 'm'\ncron = '* * * * *'\noverlap = 'wait'",
        "[[schedule]]\nmethod = 'm'\ncron = '* * * * *'\njitter = '5'",
        "[[schedule]]\nmethod = 'm'\ncron = '* * * * *'\nname = 'a b'",
        "[[schedule]]\ncron = '* * * * *'",
        "[schedule]\nmethod = 'm'\ncron = '* * * * *'",
        "[events]\npublishes = ['a b']",
        "[events]\nsubscribes = ['']",
        "[events]\nsubscribes = ['a*b']",
        "[lifecycle]\nstop_timeout = '5'",
        "[lifecycle]\nstop_timeout = ''",
        "[lifecycle]\nstop_timeout = '30s1m'",
        "[lifecycle]\nhealth_failures = 0",
        "[lifecycle.restart]\npolicy = 'onfailure'",
        "[lifecycle.restart]\nlimit = -1",
    ] {
        refused(&format!("{MINIMAL}{section}"), true);
    }
    for text in [
        "version = '1.0.0'",
        "id = 'a'",
        "id = 'A'\nversion = '1.0.0'",
        "id = 'a-'\nversion = '1.0.0'",
        "id = ''\nversion = '1.0.0'",
        "id = 'a'\nversion = '1.0'",
        "id = 'a'\nversion = '01.0.0'",
        "id = 'a'\nversion = 1",
    ] {
        refused(text, true);
    }
}

/// What a schema cannot say, or not in a way that anybody would want to read.
#[test]
fn what_only_the_parser_knows_is_listed() {
    for (section, _why) in [
        ("[limits]\nmemory = '999999999T'", "a product does not fit in 63 bits"),
        ("[limits]\nmemory = '4K'", "sizes are compared by value, not by spelling"),
        ("[limits]\nmemory = '8M'\n[sandbox]\ntmp = '16M'", "two values are compared"),
        ("[lifecycle]\nstop_timeout = '1s'\ndrain_timeout = '2s'", "two values are compared"),
        ("[lifecycle.restart]\nbackoff = '1h'", "two values are compared"),
        ("[lifecycle]\ninit_timeout = '0ms'", "spans are compared by value"),
        ("[lifecycle]\ninit_timeout = '9999d'", "spans are compared by value"),
        ("[lifecycle]\nprobation = '601s'", "spans are compared by value"),
        ("dependencies = { a = '1' }", "a key is compared with the id"),
        ("[network]\nconnect = [1]\nhosts = ['a:1']", "ports exclude hosts"),
        ("[network]\nhosts = ['a:65536']", "a number inside of a text"),
        ("[network]\nhosts = ['[::g::]:1', '[::1::2]:1']", "the grammar of IPv6"),
        ("[[schedule]]\nmethod = 'm'\ncron = '60 * * * *'", "numbers inside of a text"),
        ("[[schedule]]\nmethod = 'm'\ncron = '0 0 31 2 *'", "what a calendar has"),
        (
            "[[schedule]]\nmethod = 'm'\ncron = '* * * * *'\ntimezone = 'Mars/Olympus'",
            "which names there are",
        ),
        (
            "[[schedule]]\nmethod = 'm'\ncron = '* * * * *'\ntimeout = '0s'",
            "a span of time that is zero",
        ),
        (
            "[[schedule]]\nmethod = 'm'\ncron = '* * * * *'\n\
             [[schedule]]\nmethod = 'm'\ncron = '1 * * * *'",
            "one item is held against another",
        ),
        ("[config.schema]\noneOf = []", "a schema inside, with keywords that are not held"),
        (
            "[config.schema.properties.a]\ntype = 'integer'\n[config.defaults]\na = 'x'",
            "one value is held against another",
        ),
    ] {
        refused(&format!("{MINIMAL}{section}"), section.contains("::g"));
    }
}

/// The parser refuses it, and says where; the schema does as is said.
fn refused(text: &str, by_schema: bool) {
    let Err(failure) = parse(text) else { panic!("the parser takes\n{text}") };
    assert_eq!(failure.code, Code::ManifestInvalid, "{text}");
    for detail in ["line", "column"] {
        assert!(failure.details[detail].is_u64(), "no {detail} in {failure} for\n{text}");
    }
    assert_eq!(fits(text).is_err(), by_schema, "the schema, {:?}, for\n{text}", fits(text));
}

/// Each table of the schema with the path to it, arrays' items as index 0.
fn tables(schema: &Value, path: &str, found: &mut Vec<(String, Map<String, Value>)>) {
    let Some(properties) = schema["properties"].as_object() else {
        if schema["additionalProperties"].is_object() {
            tables(&schema["additionalProperties"], &format!("{path}.x"), found);
        } else if schema["items"].is_object() {
            tables(&schema["items"], &format!("{path}[]"), found);
        }
        return;
    };
    found.push((path.to_owned(), properties.clone()));
    for (name, inner) in properties {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        tables(inner, &path, found);
    }
}

/// The parser names the keys that it knows when it meets another: they are those of the schema.
#[test]
fn the_schema_has_the_parsers_keys_and_no_others() {
    let mut found = Vec::new();
    tables(&document(), "", &mut found);
    assert_eq!(found.len(), 12, "{:?}", found.iter().map(|(path, _)| path).collect::<Vec<_>>());
    for (path, properties) in found {
        let (header, text) = match path.strip_suffix("[]") {
            Some(path) => (format!("[[{path}]]"), "cron = '* * * * *'\nmethod = 'm'\n"),
            None if path.is_empty() => (String::new(), ""),
            None => (format!("[{path}]"), ""),
        };
        let failure = parse(&format!("{MINIMAL}{header}\n{text}zzz = 1\n")).unwrap_err();
        let known: BTreeSet<&str> = failure.message.split('`').skip(1).step_by(2).skip(1).collect();
        let published: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(known, published, "[{path}]: {failure}");
    }
}

/// A manifest that spells out every published default means the same as one that leaves them out.
#[test]
fn the_published_defaults_are_the_parsers() {
    let mut found = Vec::new();
    tables(&document(), "", &mut found);
    let mut spelled = 0;
    for (path, properties) in found {
        // What is JSON here is a value in TOML too.
        let lines: Vec<String> = properties
            .iter()
            .filter_map(|(name, inner)| Some(format!("{name} = {}\n", inner.get("default")?)))
            .collect();
        spelled += lines.len();
        let required = match path.as_str() {
            "" => MINIMAL.to_owned(),
            "provides.x" => format!("{MINIMAL}[provides.x]\nversion = '1.0.0'\n"),
            "provides.x.methods.x" => {
                format!("{MINIMAL}[provides.x]\nversion = '1.0.0'\n[provides.x.methods.x]\n")
            }
            "schedule[]" => {
                format!("{MINIMAL}[[schedule]]\ncron = '* * * * *'\nmethod = 'm'\n")
            }
            path => format!("{MINIMAL}[{path}]\n"),
        };
        let all = format!("{required}{}", lines.concat());
        assert_eq!(parse(&all).unwrap(), parse(&required).unwrap(), "{all}");
        fits(&all).unwrap();
    }
    assert!(spelled > 35, "only {spelled} defaults were found");
}
