//! `[network]`: nothing, TCP ports of the host's network, or named hosts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a plugin may reach. Without the section: nothing, in an empty network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Section", into = "Section")]
pub(crate) enum Network {
    #[default]
    None,
    /// The host's network, TCP to these ports of any address and listening on these.
    Ports { connect: Vec<u16>, bind: Vec<u16> },
    /// An empty network namespace, and connections to exactly these, which the supervisor makes
    /// and hands over.
    Hosts(Vec<HostPort>),
}

/// The section as it is written.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    connect: Vec<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bind: Vec<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<HostPort>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadNetwork {
    #[error(
        "hosts and ports cannot be combined: ports open the host's network, which hosts keep closed; keep either `hosts`, or `connect` and `bind`"
    )]
    Mixed,
    #[error("port 0 cannot be granted: it stands for any port")]
    PortZero,
}

impl TryFrom<Section> for Network {
    type Error = BadNetwork;

    fn try_from(section: Section) -> Result<Self, BadNetwork> {
        let Section { connect, bind, hosts } = section;
        if connect.contains(&0) || bind.contains(&0) {
            return Err(BadNetwork::PortZero);
        }
        match (connect.is_empty() && bind.is_empty(), hosts.is_empty()) {
            (true, true) => Ok(Self::None),
            (false, true) => Ok(Self::Ports { connect, bind }),
            (true, false) => Ok(Self::Hosts(hosts)),
            (false, false) => Err(BadNetwork::Mixed),
        }
    }
}

impl From<Network> for Section {
    fn from(network: Network) -> Self {
        match network {
            Network::None => Self::default(),
            Network::Ports { connect, bind } => Self { connect, bind, ..Self::default() },
            Network::Hosts(hosts) => Self { hosts, ..Self::default() },
        }
    }
}

/// `fhir.example.org:443`, `192.0.2.7:5432` or `[2001:db8::7]:5432`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct HostPort {
    /// A DNS name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not host:port: write for example fhir.example.org:443, 192.0.2.7:443 or [2001:db8::7]:443"
)]
pub(crate) struct BadHostPort(String);

impl FromStr for HostPort {
    type Err = BadHostPort;

    fn from_str(text: &str) -> Result<Self, BadHostPort> {
        let bad = || BadHostPort(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        if port.starts_with('+') {
            return Err(bad());
        }
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => address,
            None if is_dns_name(host) => host,
            _ => return Err(bad()),
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

/// RFC 1123 section 2.1: labels of letters, digits and inner hyphens. IPv4 addresses pass too.
fn is_dns_name(host: &str) -> bool {
    host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

impl TryFrom<String> for HostPort {
    type Error = BadHostPort;

    fn try_from(text: String) -> Result<Self, BadHostPort> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(pair: HostPort) -> String {
        pair.to_string()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Result<Network, String> {
        toml::from_str(text).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn nothing_ports_or_hosts() {
        assert_eq!(network("").unwrap(), Network::None);
        assert_eq!(
            network("connect = [443]\nbind = [8080]").unwrap(),
            Network::Ports { connect: vec![443], bind: vec![8080] }
        );
        let hosts = vec!["fhir.example.org:443".parse().unwrap()];
        assert_eq!(network("hosts = ['fhir.example.org:443']").unwrap(), Network::Hosts(hosts));
        assert!(network("hosts = ['a:1']\nconnect = [1]").unwrap_err().contains("combined"));
        assert!(network("connect = [0]").unwrap_err().contains("port 0"));
        assert!(network("connect = [65536]").is_err());
    }

    #[test]
    fn a_pair_reads_back_as_it_was_written() {
        for good in ["a:1", "fhir.example.org:443", "192.0.2.7:5432", "[2001:db8::7]:443"] {
            assert_eq!(good.parse::<HostPort>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            ":1",
            "a",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "-a:1",
            "a b:1",
            "2001:db8::7:443",
            "[::g]:1",
            "[a]:1",
            "a..b:1",
            "a.:1",
        ] {
            assert_eq!(bad.parse::<HostPort>(), Err(BadHostPort(bad.into())), "{bad}");
        }
    }
}
