//! The machine's disks, as `io.max` names them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Where the kernel lists its whole block devices; a partition has no limits of its own.
pub(super) const BLOCK_DEVICES: &str = "/sys/block";

/// `major:minor` of each block device that holds anything, those made of others (dm, md, loop) included: with all
/// of them it does not matter on what a file system lies, and some do not say.
pub(super) fn disks() -> io::Result<Vec<String>> {
    beneath(Path::new(BLOCK_DEVICES))
}

fn beneath(directory: &Path) -> io::Result<Vec<String>> {
    let mut disks = Vec::new();
    for entry in fs::read_dir(directory)? {
        let device = entry?.path();
        let read = |file| fs::read_to_string(device.join(file));
        match (read("size"), read("dev")) {
            (Ok(sectors), Ok(number)) if sectors.trim() != "0" => {
                disks.push(number.trim().to_owned());
            }
            (Ok(_), Ok(_)) => {}
            // It was taken out meanwhile.
            (Err(error), _) | (_, Err(error)) if error.kind() == ErrorKind::NotFound => {}
            (Err(error), _) | (_, Err(error)) => return Err(error),
        }
    }
    disks.sort();
    Ok(disks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_something_is_a_disk() {
        let block = tempfile::tempdir().unwrap();
        for (name, size, number) in
            [("sda", "2048", "8:0"), ("loop0", "0", "7:0"), ("dm-0", "8", "253:0")]
        {
            let device = block.path().join(name);
            fs::create_dir(&device).unwrap();
            fs::write(device.join("size"), format!("{size}\n")).unwrap();
            fs::write(device.join("dev"), format!("{number}\n")).unwrap();
        }
        fs::create_dir(block.path().join("leaving")).unwrap();
        assert_eq!(beneath(block.path()).unwrap(), ["253:0", "8:0"]);
        assert!(beneath(&block.path().join("absent")).is_err());
    }
}
