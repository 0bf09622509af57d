use super::*;

/// Long enough for any machine; a change is there at once.
const DEADLINE: Duration = Duration::from_secs(60);

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test)
}

async fn change(watch: &mut Watch, what: &str) {
    let changed = tokio::time::timeout(DEADLINE, watch.changed()).await;
    changed.unwrap_or_else(|_| panic!("{what}: not seen")).unwrap();
    watch.is_dealt_with();
}

#[test]
fn each_kind_of_change_is_seen_also_in_what_is_new() {
    run(async {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        std::fs::create_dir_all(path("src/deep")).unwrap();
        let mut watch = Watch::new(root.path()).unwrap();
        std::fs::write(path("src/deep/a.rs"), "").unwrap();
        change(&mut watch, "a file that is written").await;
        // As editors save.
        std::fs::rename(path("src/deep/a.rs"), path("src/b.rs")).unwrap();
        change(&mut watch, "a file that is moved").await;
        std::fs::remove_file(path("src/b.rs")).unwrap();
        change(&mut watch, "a file that is removed").await;
        std::fs::create_dir(path("assets")).unwrap();
        change(&mut watch, "a directory that is made").await;
        std::fs::write(path("assets/c"), "").unwrap();
        change(&mut watch, "a file in what is new").await;
    });
}

#[test]
fn what_is_made_by_a_build_or_an_editor_is_no_change() {
    run(async {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        std::fs::create_dir_all(path("target/debug")).unwrap();
        let mut watch = Watch::new(root.path()).unwrap();
        for name in ["target/debug/a", "Cargo.lock", ".main.rs.swp", "main.rs~", "a-1.0.0.plugin"] {
            std::fs::write(path(name), "").unwrap();
            // The events of what was written are there when the write returns.
            let _ = tokio::time::timeout(Duration::ZERO, watch.take()).await;
            assert!(!watch.pending, "{name}");
        }
        std::fs::write(path("plugin.toml"), "").unwrap();
        change(&mut watch, "the control").await;
    });
}

#[test]
fn a_change_that_is_not_dealt_with_stays_one() {
    run(async {
        let root = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(root.path()).unwrap();
        std::fs::write(root.path().join("a"), "").unwrap();
        watch.changed().await.unwrap();
        // As when the build that it leads to is given up.
        watch.changed().await.unwrap();
        watch.is_dealt_with();
        assert!(!watch.pending);
    });
}
