use std::path::Path;

use super::location::{mount_point, own_path};
use super::*;

#[test]
fn the_v2_mount_is_found_on_hybrid_and_unified_machines() {
    let hybrid = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    let unified =
        "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    let odd = "30 24 0:26 / /mnt/my\\040groups rw - cgroup2 none rw\n";
    let at = |info: &str| mount_point(info).map(|mounted| mounted.directory(Path::new("/a/b")));
    assert_eq!(at(hybrid).as_deref(), Some(Path::new("/sys/fs/cgroup/unified/a/b")));
    assert_eq!(at(unified).as_deref(), Some(Path::new("/sys/fs/cgroup/a/b")));
    assert_eq!(at(odd).as_deref(), Some(Path::new("/mnt/my groups/a/b")));
    assert_eq!(at("22 27 0:21 / /proc rw - proc proc rw\n"), None);
}

#[test]
fn a_bind_mounted_part_of_the_hierarchy_is_resolved_within_itself() {
    let bind = "30 24 0:26 /pod/7 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    let mounted = mount_point(bind).unwrap();
    assert_eq!(mounted.directory(Path::new("/pod/7/app")), Path::new("/sys/fs/cgroup/app"));
    assert_eq!(mounted.directory(Path::new("/pod/7")), Path::new("/sys/fs/cgroup"));
}

#[test]
fn our_path_is_the_line_without_controllers() {
    let hybrid = "9:name=systemd:/\n4:memory:/api/1\n0::/system.slice/a b.service\n";
    assert_eq!(own_path(hybrid).as_deref(), Some(Path::new("/system.slice/a b.service")));
    assert_eq!(own_path("4:memory:/x\n"), None);
}

#[test]
fn keyed_files_are_read_by_whole_keys() {
    let events = "low 0\nhigh 12\nmax 3\noom 1\noom_kill 7\noom_group_kill 2\n";
    assert_eq!(group::keyed(events, "oom"), Some(1));
    assert_eq!(group::keyed(events, "oom_kill"), Some(7));
    assert_eq!(group::keyed(events, "absent"), None);
    let io = "259:0 rbytes=10 wbytes=1 rios=2\n8:16 rbytes=32 wbytes=0 rios=1\n";
    assert_eq!(group::sum(io, "rbytes"), 42);
}

#[test]
fn names_that_could_leave_the_tree_are_refused() {
    let tree = tempfile::tempdir().unwrap();
    std::fs::write(tree.path().join("cgroup.controllers"), "").unwrap();
    std::fs::write(tree.path().join("cgroup.subtree_control"), "").unwrap();
    std::fs::create_dir(tree.path().join("plugins")).unwrap();
    std::fs::write(tree.path().join("plugins/cgroup.controllers"), "").unwrap();
    std::fs::write(tree.path().join("plugins/cgroup.subtree_control"), "").unwrap();
    let tree = Tree::at(tree.path()).unwrap();
    for name in ["", "..", ".hidden", "a/b", "../x", "a\0b", "a b", &"x".repeat(65)] {
        assert!(matches!(tree.create(name), Err(CgroupError::Name { .. })), "{name:?}");
    }
}

#[test]
fn memory_is_rounded_to_pages_as_the_kernel_does() {
    assert_eq!(limits::page_floor(4096), 4096);
    assert_eq!(limits::page_floor(10_000), 8192);
}
