//! What a plugin sent and received.

use bulkhead_sandbox::Layer;
use serde::Serialize;

use crate::link::{Reply, Request};
use crate::manifest::{Manifest, Network as Asked};
use crate::supervise::launcher_link::Launcher;
use crate::supervise::plugin::ProcessView;

/// Through its own network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Network {
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
}

/// The counters of a namespace that is the plugin's alone; in the machine's own they would be
/// everybody's. Of a plugin that is connected by the host they would lie: its sockets are of the
/// machine's namespace, and are counted by nobody.
pub(super) async fn network(
    launcher: &Launcher,
    manifest: &Manifest,
    process: &ProcessView,
) -> Option<Network> {
    let own = process.enforcement.layer(Layer::NetNamespace)?;
    if !own.enforced || matches!(manifest.network, Asked::Hosts(_)) {
        return None;
    }
    match launcher.ask(Request::NetworkDevices { id: manifest.id.clone() }).await {
        Ok((Reply::NetworkDevices(text), _)) => counters(&text?),
        Ok(_) | Err(_) => None,
    }
}

/// The sums of `/proc/PID/net/dev`, proc_pid_net(5): two lines of heading, then a line a device with
/// eight numbers received and eight sent, bytes first.
fn counters(text: &str) -> Option<Network> {
    let mut sums = Network { received_bytes: 0, sent_bytes: 0 };
    for line in text.lines().skip(2) {
        let (_, numbers) = line.split_once(':')?;
        let mut numbers = numbers.split_whitespace();
        sums.received_bytes += numbers.next()?.parse::<u64>().ok()?;
        sums.sent_bytes += numbers.nth(7)?.parse::<u64>().ok()?;
    }
    Some(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_all_devices_are_added() {
        let text = "Inter-|   Receive                  |  Transmit\n \
            face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop\n \
               lo:   100  2 0 0 0 0 0 0   100  2 0 0 0 0 0 0\n \
             eth0: 12345 67 0 0 0 0 0 0  6789 10 0 0 0 0 0 0\n";
        let sums = Network { received_bytes: 12_445, sent_bytes: 6_889 };
        assert_eq!(counters(text), Some(sums));
        assert_eq!(counters("a\nb\n"), Some(Network { received_bytes: 0, sent_bytes: 0 }));
        assert_eq!(counters("a\nb\nlo: 1 2 3\n"), None, "a line that is cut short");
    }

    #[test]
    fn our_own_counters_can_be_read() {
        let text = std::fs::read_to_string("/proc/self/net/dev").unwrap();
        assert!(counters(&text).is_some(), "{text}");
    }
}
