//! Sizes, CPU shares and spans of time as people write them: one grammar for manifest and flags.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes: `4096`, `64K`, `64M`, `2G`, `1T`, also `64MiB`. The suffixes are powers of
/// 1024, as in systemd.resource-control(5) and the cgroup files. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(u64);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadByteSize {
    #[error(
        "{0:?} is not a size: write a whole number of bytes, or one with K, M, G or T, for example 64M"
    )]
    Syntax(String),
    #[error("{0:?} uses powers of ten: write K, M, G or T (powers of 1024), for example 64M")]
    Decimal(String),
    #[error("{0:?} is more bytes than fit in 63 bits")]
    TooLarge(String),
    #[error("a size must be at least one byte")]
    Zero,
}

impl ByteSize {
    pub(crate) const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = BadByteSize;

    fn from_str(text: &str) -> Result<Self, BadByteSize> {
        let (digits, suffix) = split_number(text);
        let shift = match suffix {
            "" | "B" => 0,
            "K" | "KiB" => 10,
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            "T" | "TiB" => 40,
            "k" | "kB" | "KB" | "MB" | "GB" | "TB" if !digits.is_empty() => {
                return Err(BadByteSize::Decimal(text.to_owned()));
            }
            _ => return Err(BadByteSize::Syntax(text.to_owned())),
        };
        if digits.is_empty() {
            return Err(BadByteSize::Syntax(text.to_owned()));
        }
        let too_large = || BadByteSize::TooLarge(text.to_owned());
        let number: u64 = digits.parse().map_err(|_| too_large())?;
        match number.checked_mul(1 << shift) {
            Some(0) => Err(BadByteSize::Zero),
            // The kernel's counters and off_t are signed.
            Some(bytes) if i64::try_from(bytes).is_ok() => Ok(Self(bytes)),
            _ => Err(too_large()),
        }
    }
}

impl fmt::Display for ByteSize {
    /// The shortest exact form, which reads back as the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, suffix) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
            if self.0.trailing_zeros() >= shift {
                return write!(f, "{}{suffix}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64M\", or a number of bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                bytes.to_string().parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                bytes.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Size)
    }
}

/// A share of CPU time: `20%` is a fifth of one CPU, `150%` one and a half. At least `1%`, the
/// smallest quota that the kernel takes for a period of 100 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct CpuShare {
    percent: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a cpu share: write a whole percentage of one cpu from 1% to 100000%, for example 20%"
)]
pub(crate) struct BadCpuShare(String);

impl CpuShare {
    /// The period of `cpu.max` that goes with [`Self::quota_us`], in microseconds.
    pub(crate) const PERIOD_US: u64 = 100_000;

    /// Of one CPU.
    pub(crate) fn percent(self) -> u32 {
        self.percent
    }

    /// CPU time in each period, in microseconds: the first number of `cpu.max`.
    pub(crate) fn quota_us(self) -> u64 {
        u64::from(self.percent) * (Self::PERIOD_US / 100)
    }
}

impl FromStr for CpuShare {
    type Err = BadCpuShare;

    fn from_str(text: &str) -> Result<Self, BadCpuShare> {
        match split_number(text) {
            (digits, "%") => match digits.parse() {
                Ok(percent @ 1..=100_000) => Ok(Self { percent }),
                _ => Err(BadCpuShare(text.to_owned())),
            },
            _ => Err(BadCpuShare(text.to_owned())),
        }
    }
}

impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent)
    }
}

impl TryFrom<String> for CpuShare {
    type Error = BadCpuShare;

    fn try_from(text: String) -> Result<Self, BadCpuShare> {
        text.parse()
    }
}

impl From<CpuShare> for String {
    fn from(share: CpuShare) -> String {
        share.to_string()
    }
}

/// A span of time: `500ms`, `5s`, `2m`, `1h`, `7d`, or several together, `1m30s`. To the
/// millisecond, at most 10 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct TimeSpan {
    millis: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadTimeSpan {
    #[error("{0:?} has no unit: write ms, s, m, h or d, for example {0}s")]
    NoUnit(String),
    #[error("{0:?} is not a span of time: write numbers with ms, s, m, h or d, for example 1m30s")]
    Syntax(String),
    #[error("{0:?} is longer than ten years")]
    TooLong(String),
}

const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl TimeSpan {
    const MAX_MILLIS: u64 = 10 * 366 * 86_400_000;

    pub(crate) const fn from_secs(secs: u32) -> Self {
        Self { millis: secs as u64 * 1000 }
    }

    pub(crate) const fn duration(self) -> Duration {
        Duration::from_millis(self.millis)
    }

    pub(crate) fn millis(self) -> u64 {
        self.millis
    }
}

impl FromStr for TimeSpan {
    type Err = BadTimeSpan;

    fn from_str(text: &str) -> Result<Self, BadTimeSpan> {
        let too_long = || BadTimeSpan::TooLong(text.to_owned());
        let mut rest = text;
        let mut millis: u64 = 0;
        // Each unit once, the larger first: `90s` and `1m30s`, not `30s1m`.
        let mut previous = u64::MAX;
        while !rest.is_empty() || previous == u64::MAX {
            let (digits, tail) = split_number(rest);
            let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            if digits.is_empty() {
                return Err(BadTimeSpan::Syntax(text.to_owned()));
            }
            if unit.is_empty() {
                return Err(BadTimeSpan::NoUnit(text.to_owned()));
            }
            let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
            let Some(scale) = scale.filter(|scale| *scale < previous) else {
                return Err(BadTimeSpan::Syntax(text.to_owned()));
            };
            let number: u64 = digits.parse().map_err(|_| too_long())?;
            millis = number
                .checked_mul(scale)
                .and_then(|part| millis.checked_add(part))
                .ok_or_else(too_long)?;
            previous = scale;
            rest = tail;
        }
        if millis > Self::MAX_MILLIS { Err(too_long()) } else { Ok(Self { millis }) }
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.millis == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.millis;
        for (unit, scale) in UNITS {
            if rest >= scale {
                write!(f, "{}{unit}", rest / scale)?;
                rest %= scale;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for TimeSpan {
    type Error = BadTimeSpan;

    fn try_from(text: String) -> Result<Self, BadTimeSpan> {
        text.parse()
    }
}

impl From<TimeSpan> for String {
    fn from(span: TimeSpan) -> String {
        span.to_string()
    }
}

fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests;
