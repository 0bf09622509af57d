use super::*;
use crate::cli::args::StrictnessFlags;

fn flags(directory: &Path) -> ProjectFlags {
    ProjectFlags {
        directory: directory.to_owned(),
        config: Vec::new(),
        with: Vec::new(),
        release: false,
        strictness: StrictnessFlags { strict: false, best_effort: false },
    }
}

#[test]
fn a_project_is_where_its_manifest_is() {
    let root = tempfile::tempdir().unwrap();
    let problem = Project::find(&flags(root.path())).err().unwrap();
    assert_eq!((problem.code.as_str(), problem.exit_code), ("NOT_FOUND", 3));
    let absent = Project::find(&flags(&root.path().join("absent"))).err().unwrap();
    assert_eq!(absent.code, "NOT_FOUND");
    std::fs::write(root.path().join("plugin.toml"), "id = 'a'\nversion = '1.0.0'").unwrap();
    assert!(Project::find(&flags(root.path())).unwrap().cargo().is_none());
    std::fs::write(root.path().join("Cargo.toml"), "").unwrap();
    assert!(Project::find(&flags(root.path())).unwrap().cargo().is_some());
}

#[test]
fn what_is_laid_out_is_what_a_package_has() {
    let root = tempfile::tempdir().unwrap();
    let manifest = "id = 'a'\nversion = '1.0.0'\nentry = 'bin/deep/b'";
    for (name, text) in [
        ("plugin.toml", manifest),
        ("Cargo.toml", ""),
        ("assets/forms/one.json", "{}"),
        ("src/main.rs", ""),
        ("program", "the program"),
    ] {
        let path = root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let project = Project::find(&flags(root.path())).unwrap();
    let manifest = Manifest::load(root.path()).unwrap();
    let to = root.path().join("to");
    project.lay_out(&manifest, &root.path().join("program"), &to).unwrap();
    let entry = std::fs::metadata(to.join("bin/deep/b")).unwrap();
    assert_eq!(entry.permissions().mode() & 0o777, 0o755);
    assert_eq!(std::fs::read_to_string(to.join("assets/forms/one.json")).unwrap(), "{}");
    assert!(to.join("plugin.toml").is_file() && !to.join("src").exists());
}
