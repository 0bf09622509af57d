use super::*;
use crate::manifest::Manifest;

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-sdk").canonicalize().unwrap()
}

#[test]
fn a_project_has_its_name_everywhere_and_nowhere_the_examples() {
    let below = tempfile::tempdir().unwrap();
    let directory = below.path().join("new");
    let id: PluginId = "appointment-reminder".parse().unwrap();
    write(&id, &directory, &sources()).unwrap();
    let manifest = Manifest::load(&directory).unwrap();
    assert_eq!((manifest.id, manifest.version.to_string()), (id, "0.1.0".to_owned()));
    let cargo: toml::Table =
        std::fs::read_to_string(directory.join("Cargo.toml")).unwrap().parse().unwrap();
    assert_eq!(cargo["package"]["name"].as_str(), Some("appointment-reminder"));
    let sdk = cargo["dependencies"]["bulkhead-plugin-sdk"]["path"].as_str().unwrap();
    assert_eq!(Path::new(sdk), sources());
    for name in ["Cargo.toml", "plugin.toml", "README.md"] {
        let text = std::fs::read_to_string(directory.join(name)).unwrap();
        assert!(
            !text.contains("hello") && text.contains("appointment-reminder"),
            "{name}:\n{text}"
        );
    }
    // The program takes its name from Cargo, so it is the tested example to the last byte.
    assert_eq!(std::fs::read_to_string(directory.join("src/main.rs")).unwrap(), PROGRAM);
    assert_eq!(std::fs::read_dir(below.path()).unwrap().count(), 1, "something hidden stays");
}

/// What the example is built with is what a project is built with.
#[test]
fn the_example_has_the_dependencies_of_a_project() {
    let names = |text: &str, table: &str| -> Vec<String> {
        let cargo: toml::Table = text.parse().unwrap();
        cargo[table].as_table().unwrap().keys().cloned().collect()
    };
    let example = include_str!("../../../../examples/hello/Cargo.toml");
    let project = cargo_manifest(&"a".parse().unwrap(), Path::new("/a \"quoted\" path"));
    for table in ["dependencies", "dev-dependencies"] {
        assert_eq!(names(example, table), names(&project, table));
    }
}

#[test]
fn nothing_is_written_over() {
    let below = tempfile::tempdir().unwrap();
    let id: PluginId = "a".parse().unwrap();
    let taken = write(&id, below.path(), &sources()).unwrap_err();
    assert_eq!(taken.code, Code::AlreadyExists);
    let digit = write(&"1a".parse().unwrap(), &below.path().join("x"), &sources()).unwrap_err();
    assert!(digit.message.contains("digit"), "{digit}");
    assert_eq!(std::fs::read_dir(below.path()).unwrap().count(), 0);
    assert_eq!(sdk(Some(below.path())).unwrap_err().code, Code::NotFound);
    assert_eq!(sdk(Some(&sources())).unwrap(), sources());
}
