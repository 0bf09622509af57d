//! Where a collector of spans listens: `http://host:port`, by default port 4318 and path `/v1/traces`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Plain HTTP: a collector beside the service, which goes on by TLS where that is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct OtlpEndpoint {
    host: String,
    port: u16,
    path: String,
}

impl OtlpEndpoint {
    /// The port of OTLP over HTTP.
    const PORT: u16 = 4318;
    const PATH: &str = "/v1/traces";

    /// A name or an address, without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// As the header `host` has it.
    pub(crate) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl TryFrom<String> for OtlpEndpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || {
            format!(
                "{text:?} is no collector: write http://host:4318; https is for a collector beside \
                 this service to speak"
            )
        };
        let rest = text.strip_prefix("http://").ok_or_else(bad)?;
        let (authority, path) = match rest.find('/') {
            Some(at) if at + 1 < rest.len() => (&rest[..at], rest[at..].to_owned()),
            Some(at) => (&rest[..at], Self::PATH.to_owned()),
            None => (rest, Self::PATH.to_owned()),
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']').ok_or_else(bad)?;
                (host, behind.strip_prefix(':').or_else(|| behind.is_empty().then_some("")))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, Some("")),
            },
        };
        let port = match port.ok_or_else(bad)? {
            "" => Self::PORT,
            digits => digits.parse().ok().filter(|port| *port > 0).ok_or_else(bad)?,
        };
        let plain = |text: &str, more: &[u8]| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
        };
        if host.is_empty() || !plain(host, b"-.:_") || !plain(&path, b"-._~/%") {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port, path })
    }
}

impl From<OtlpEndpoint> for String {
    fn from(endpoint: OtlpEndpoint) -> String {
        endpoint.to_string()
    }
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_what_is_usual_beside_it() {
        for (text, written) in [
            ("http://127.0.0.1", "http://127.0.0.1:4318/v1/traces"),
            ("http://collector:80/", "http://collector:80/v1/traces"),
            ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
            ("http://[::1]/otlp/v1/traces", "http://[::1]:4318/otlp/v1/traces"),
        ] {
            let endpoint = OtlpEndpoint::try_from(text.to_owned()).unwrap();
            assert_eq!(endpoint.to_string(), written);
            assert_eq!(OtlpEndpoint::try_from(endpoint.to_string()), Ok(endpoint));
        }
        for bad in [
            "",
            "collector:4318",
            "https://collector",
            "http://",
            "http://:80",
            "http://a:0",
            "http://a:70000",
            "http://a:b",
            "http://a b",
            "http://[::1",
            "http://[::1]x",
            "http://u@a",
            "http://a/\r\nx: y",
        ] {
            let error = OtlpEndpoint::try_from(bad.to_owned()).unwrap_err();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }
}
