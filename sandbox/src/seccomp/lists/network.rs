//! Sockets of one's own.

use crate::seccomp::line::{Check, Given, List, Named, allow, answer, bits, c, e, is, when};

/// The kind of a socket, without its flags. Source: the kernel's `include/linux/net.h`.
pub(super) const TYPE: Named = (0xf, "SOCK_TYPE_MASK");

pub(super) const INET: Check = is(0, "domain", c!(AF_INET));
pub(super) const INET6: Check = is(0, "domain", c!(AF_INET6));
pub(super) const UNIX: Check = is(0, "domain", c!(AF_UNIX));
pub(super) const STREAM: Check = bits(1, "type", TYPE, c!(SOCK_STREAM));
pub(super) const DATAGRAM: Check = bits(1, "type", TYPE, c!(SOCK_DGRAM));
pub(super) const PACKETS: Check = bits(1, "type", TYPE, c!(SOCK_SEQPACKET));
pub(super) const DEFAULT: Check = is(2, "protocol", (0, "0"));
pub(super) const TCP: Check = is(2, "protocol", c!(IPPROTO_TCP));
pub(super) const UDP: Check = is(2, "protocol", c!(IPPROTO_UDP));

/// TCP sockets, and UDP sockets.
pub(super) const TCP_SOCKETS: &[&[Check]] = &[
    &[INET, STREAM, DEFAULT],
    &[INET, STREAM, TCP],
    &[INET6, STREAM, DEFAULT],
    &[INET6, STREAM, TCP],
];
pub(super) const UDP_SOCKETS: &[&[Check]] = &[
    &[INET, DATAGRAM, DEFAULT],
    &[INET, DATAGRAM, UDP],
    &[INET6, DATAGRAM, DEFAULT],
    &[INET6, DATAGRAM, UDP],
];

pub(super) static INTERNET: List = List {
    name: "internet",
    purpose: "TCP and UDP where granted; Landlock checks the ports of TCP. Otherwise refused by an error.",
    lines: &[
        when(
            &["socket"],
            TCP_SOCKETS,
            "TCP and no other stream: Landlock's port rules do not see MPTCP and SCTP",
        )
        .given(Given::Tcp),
        when(&["socket"], UDP_SOCKETS, "UDP and no raw socket").given(Given::Udp),
        allow(&["connect", "bind", "listen", "accept", "accept4"], "using them")
            .given(Given::Internet),
        answer(
            &["socket"],
            e!(EAFNOSUPPORT),
            "as where the kernel lacks the family: name resolution and libraries try several and go on. Kept out: AF_NETLINK, AF_PACKET, AF_VSOCK, AF_ALG, raw sockets, and all of the rest",
        ),
        answer(
            &["connect", "bind", "listen", "accept", "accept4"],
            e!(EACCES),
            "as where a firewall refuses; libc asks the name-service cache this way",
        ),
    ],
};

pub(super) static LOCAL: List = List {
    name: "local sockets",
    purpose: "Unix sockets between the processes of the compartment. Where one of the host's would be in reach, there are none.",
    lines: &[
        when(
            &["socket"],
            &[&[UNIX]],
            "the paths are those of a private root that shows no place of the machine, or those that Landlock lets it reach. Without either there is none: a socket of datagrams sends to any path, without `connect`",
        )
        .given(Given::PathSocketsConfined),
        when(
            &["socketpair"],
            &[&[UNIX, DATAGRAM]],
            "each of a pair of datagram sockets can still send to any other, by its path or its abstract name",
        )
        .given(Given::LocalSocketsConfined),
        allow(&["bind", "listen", "accept", "accept4"], "serving on them"),
        allow(
            &["connect"],
            "where besides a network namespace or Landlock's scope hides the host's abstract sockets",
        )
        .given(Given::LocalSocketsConfined),
    ],
};
