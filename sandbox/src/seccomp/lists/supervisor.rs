//! The service's supervisor, which confines itself: its code is our own, and what it parses is not.

use super::network::{PACKETS, STREAM, TCP_SOCKETS, UDP_SOCKETS, UNIX};
use crate::seccomp::line::{List, allow, answer, c, e, is, when};

pub(super) static SUPERVISOR: List = List {
    name: "supervisor",
    purpose: "What the supervisor does besides: it serves its clients, makes the connections that plugins were granted, and keeps their logs.",
    lines: &[
        allow(
            &["accept", "accept4"],
            "clients, on the socket that the launcher made and listens on",
        ),
        when(&["socket"], TCP_SOCKETS, "TCP to granted hosts, and to a collector of spans"),
        when(&["socket"], UDP_SOCKETS, "DNS"),
        answer(
            &["socket"],
            e!(EAFNOSUPPORT),
            "as where the kernel lacks the family. Kept out: local sockets, so that no other service of the machine is reached by one (names are resolved by /etc/hosts and DNS), AF_NETLINK, AF_PACKET, raw sockets, and all of the rest",
        ),
        allow(&["connect"], "to granted hosts, and to name servers"),
        when(
            &["setsockopt"],
            &[
                &[is(1, "level", c!(IPPROTO_IP)), is(2, "name", c!(IP_RECVERR))],
                &[is(1, "level", c!(IPPROTO_IPV6)), is(2, "name", c!(IPV6_RECVERR))],
            ],
            "glibc's resolver gives up a name server at once that is not there",
        ),
        when(
            &["socketpair"],
            &[&[UNIX, STREAM], &[UNIX, PACKETS]],
            "sessions. Kept out: a pair of datagram sockets, of which each can still send to any other",
        ),
        answer(&["socketpair"], e!(EAFNOSUPPORT), "as where the kernel lacks the family"),
        allow(
            &["inotify_init1", "inotify_add_watch", "inotify_rm_watch"],
            "it hears from the cgroups of plugins when one of them is refused something",
        ),
        allow(
            &["splice"],
            "a plugin's output goes from the pipe into a file, so that none is lost",
        ),
        answer(
            &["bind", "listen"],
            e!(EACCES),
            "the one socket that is listened on came with the start",
        ),
    ],
};
