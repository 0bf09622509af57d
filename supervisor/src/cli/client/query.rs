//! Paths and queries, percent-encoded (RFC 3986 section 2).

use std::fmt::Write as _;

/// A path with a query that grows.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Query(String);

impl Query {
    /// `path` is encoded already.
    pub(in crate::cli) fn of(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    pub(in crate::cli) fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(key);
        self.0.push('=');
        encode(&value.to_string(), &mut self.0);
        self
    }

    pub(in crate::cli) fn with_some(self, key: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }
}

impl From<Query> for String {
    fn from(query: Query) -> String {
        query.0
    }
}

/// Encodes each segment; slashes stay.
pub(in crate::cli) fn encode_segments(path: &str) -> String {
    let mut encoded = String::new();
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            encoded.push('/');
        }
        encode(segment, &mut encoded);
    }
    encoded
}

fn encode(text: &str, to: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(char::from(byte));
        } else {
            write!(to, "%{byte:02X}").expect("writing to a String does not fail");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_plain_is_encoded() {
        assert_eq!(encode_segments("appointments/list"), "appointments/list");
        assert_eq!(encode_segments("a b/ü?#"), "a%20b/%C3%BC%3F%23");
        let query =
            Query::of("/v1/x").with("a", 1).with_some("b", Some("&=")).with_some("c", None::<u8>);
        assert_eq!(String::from(query), "/v1/x?a=1&b=%26%3D");
    }
}
