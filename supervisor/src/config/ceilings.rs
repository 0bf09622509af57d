//! `[limits]`: what one plugin can have at most, whatever its manifest asks for.
//!
//! The keys are those of the manifest's `[limits]`. One that asks for more is refused before it is
//! installed and again at each enable, and by the launcher, which does not take the supervisor's word.
//! Most plugins ask for no limit of disks: these then have the administrator's.

use std::fmt::Display;

use bulkhead_sandbox::{DiskMax, floors};
use serde::{Deserialize, Serialize};

use crate::failure::{Code, Failure};
use crate::id::PluginId;
use crate::manifest::{ByteSize, CpuShare, Limits};

/// None of each: as much as the manifest asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Ceilings {
    /// Of one CPU.
    pub(crate) cpu: Option<CpuShare>,
    /// Of `/data` and state together, and of a single file.
    pub(crate) storage: Option<ByteSize>,
    /// Bytes in a second from each disk, and to each. At least 64K.
    pub(crate) io_read: Option<ByteSize>,
    pub(crate) io_write: Option<ByteSize>,
    /// Operations in a second. At least 16.
    pub(crate) io_read_ops: Option<u32>,
    pub(crate) io_write_ops: Option<u32>,
}

impl Ceilings {
    /// What no plugin could start with. The field at fault, and why.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let mut limits = Limits::default();
        self.fill(&mut limits);
        limits.check()
    }

    /// Gives one that asks for no limit of disks these.
    pub(crate) fn fill(&self, limits: &mut Limits) {
        limits.io_read = limits.io_read.or(self.io_read);
        limits.io_write = limits.io_write.or(self.io_write);
        limits.io_read_ops = limits.io_read_ops.or(self.io_read_ops);
        limits.io_write_ops = limits.io_write_ops.or(self.io_write_ops);
    }

    /// Holds what a plugin asks for against these.
    ///
    /// # Errors
    /// [`Code::ResourceExhausted`] with `resource`, `limit`, `asked`, and the manifest's `key` and `value`.
    pub(crate) fn admit(&self, id: &PluginId, limits: &Limits) -> Result<(), Failure> {
        above("cpu", Some(limits.cpu), self.cpu, id)?;
        above("storage", Some(limits.storage), self.storage, id)?;
        above("io_read", limits.io_read, self.io_read, id)?;
        above("io_write", limits.io_write, self.io_write, id)?;
        above("io_read_ops", limits.io_read_ops, self.io_read_ops, id)?;
        above("io_write_ops", limits.io_write_ops, self.io_write_ops, id)
    }

    /// As the launcher holds a request against them.
    pub(crate) fn floors(&self) -> floors::Ceilings {
        floors::Ceilings {
            cpu: self.cpu.map(|share| share.percent().into()),
            file_size: self.storage.map(ByteSize::bytes),
            disks: DiskMax {
                rbps: self.io_read.map(ByteSize::bytes),
                wbps: self.io_write.map(ByteSize::bytes),
                riops: self.io_read_ops.map(u64::from),
                wiops: self.io_write_ops.map(u64::from),
            },
        }
    }
}

fn above<T: PartialOrd + Display>(
    resource: &str,
    asked: Option<T>,
    most: Option<T>,
    id: &PluginId,
) -> Result<(), Failure> {
    let (Some(asked), Some(most)) = (asked, most) else { return Ok(()) };
    if asked <= most {
        return Ok(());
    }
    let (key, asked, most) = (format!("limits.{resource}"), asked.to_string(), most.to_string());
    let message = format!(
        "{id} asks for {key} = {asked}, and a plugin can have at most {most} here; lower it in \
         plugin.toml, or raise `{resource}` in [limits] of bulkhead.toml"
    );
    Err(Failure::new(Code::ResourceExhausted, message)
        .with("resource", resource)
        .with("limit", most)
        .with("asked", &asked)
        .with("key", key)
        .with("value", asked))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ceilings(text: &str) -> Ceilings {
        toml::from_str(text).unwrap()
    }

    fn limits(text: &str) -> Limits {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn one_that_asks_for_more_is_refused_with_its_key_and_value() {
        let id = "a".parse().unwrap();
        for (ceiling, good, bad, key, value) in [
            ("cpu = '150%'", "cpu = '150%'", "cpu = '100000%'", "cpu", "100000%"),
            ("storage = '1G'", "storage = '1G'", "storage = '2G'", "storage", "2G"),
            ("io_read = '8M'", "io_read = '8M'", "io_read = '9M'", "io_read", "9M"),
            ("io_write = '8M'", "io_read = '9M'", "io_write = '9M'", "io_write", "9M"),
            ("io_read_ops = 20", "io_read_ops = 20", "io_read_ops = 21", "io_read_ops", "21"),
            ("io_write_ops = 20", "", "io_write_ops = 21", "io_write_ops", "21"),
        ] {
            let ceilings = ceilings(ceiling);
            ceilings.admit(&id, &limits(good)).unwrap();
            let failure = ceilings.admit(&id, &limits(bad)).unwrap_err();
            assert_eq!(failure.code, Code::ResourceExhausted);
            let found = json!([failure.details["key"], failure.details["value"]]);
            assert_eq!(found, json!([format!("limits.{key}"), value]));
            Ceilings::default().admit(&id, &limits(bad)).unwrap();
        }
    }

    #[test]
    fn one_that_asks_for_no_limit_of_disks_has_the_administrators() {
        let ceilings = ceilings("io_read = '8M'\nio_write_ops = 20\ncpu = '500%'");
        let mut limits = limits("io_read = '1M'");
        let asked = limits.clone();
        ceilings.fill(&mut limits);
        let filled = Limits { io_write_ops: Some(20), ..asked };
        assert_eq!(limits, filled);
        ceilings.admit(&"a".parse().unwrap(), &limits).unwrap();
    }

    #[test]
    fn the_launcher_has_the_same_numbers() {
        let ceilings = ceilings("cpu = '150%'\nstorage = '1K'\nio_read = '64K'\nio_write_ops = 20");
        let disks = DiskMax { rbps: Some(64 << 10), wbps: None, riops: None, wiops: Some(20) };
        let same = floors::Ceilings { cpu: Some(150), file_size: Some(1 << 10), disks };
        assert_eq!(ceilings.floors(), same);
        assert_eq!(Ceilings::default().floors(), floors::Ceilings::default());
    }
}
