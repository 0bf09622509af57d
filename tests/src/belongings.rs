//! What a plugin has: data and state, to the last byte. For a test that asks whether any of it was lost.

use std::collections::BTreeMap;
use std::fs::{create_dir, metadata, read, read_dir, symlink_metadata, write};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::service::Service;

/// Large enough to be written in several pieces.
const LARGE: usize = 3_000_001;

#[derive(Clone, PartialEq, Eq)]
pub struct Belongings {
    /// By their paths beneath `/data`; a directory has no content.
    data: BTreeMap<String, Option<Vec<u8>>>,
    /// Keys and values.
    state: Vec<Value>,
}

/// Not the bytes, which are many.
impl std::fmt::Debug for Belongings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = |content: &Option<Vec<u8>>| content.as_ref().map(Vec::len);
        let data: Vec<_> = self.data.iter().map(|(path, it)| (path, length(it))).collect();
        f.debug_struct("Belongings").field("data", &data).field("state", &self.state).finish()
    }
}

impl Belongings {
    /// What [`Belongings::furnish`] gives a revision 1.0.0 that was started and stopped once.
    pub fn furnished() -> Self {
        let mut data: BTreeMap<_, _> =
            files().into_iter().map(|(path, content)| (path.to_owned(), Some(content))).collect();
        data.insert("notes".to_owned(), None);
        Self { data, state: vec![json!(["saved", "1.0.0"]), json!(["signed", ["1.0.0"]])] }
    }

    /// Gives a plugin that does not run some data, as if it had written them itself.
    pub fn furnish(service: &Service, id: &str) {
        let root = directory(service, id);
        create_dir(root.join("notes")).unwrap();
        give(&root.join("notes"), &root);
        for (path, content) in files() {
            write(root.join(path), content).unwrap();
            give(&root.join(path), &root);
        }
        assert_eq!(Self::of(service, id), Self::furnished());
    }

    /// What a plugin has now.
    pub fn of(service: &Service, id: &str) -> Self {
        let mut data = BTreeMap::new();
        collect(&directory(service, id), "", &mut data);
        let state = service.json(["state", id])["entries"].as_array().unwrap().clone();
        let state = state.iter().map(|entry| json!([entry["key"], entry["value"]])).collect();
        Self { data, state }
    }
}

fn files() -> [(&'static str, Vec<u8>); 3] {
    // No two blocks are alike, so that one in another's place is seen.
    let large = (0..LARGE as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8);
    [("notes/one", b"kept".to_vec()), ("empty", Vec::new()), ("large", large.collect())]
}

fn directory(service: &Service, id: &str) -> PathBuf {
    service.directory().join("state/plugins").join(id).join("data")
}

/// What a test has made becomes the plugin's, whose data it is. Without root both are one user's.
fn give(path: &Path, data: &Path) {
    let owner = metadata(data).unwrap();
    chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

fn collect(directory: &Path, shown: &str, data: &mut BTreeMap<String, Option<Vec<u8>>>) {
    for entry in read_dir(directory).unwrap() {
        let (path, name) = {
            let entry = entry.unwrap();
            (entry.path(), entry.file_name().into_string().unwrap())
        };
        let shown = if shown.is_empty() { name } else { format!("{shown}/{name}") };
        if symlink_metadata(&path).unwrap().is_dir() {
            collect(&path, &shown, data);
            data.insert(shown, None);
        } else {
            data.insert(shown, Some(read(&path).unwrap()));
        }
    }
}
