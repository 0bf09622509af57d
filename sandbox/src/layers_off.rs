//! A compartment with layers left out, to see which other stops an attack then. Only tests ask for
//! that, and a release build does not have it: there is nothing in it that could be switched.

use std::cell::Cell;

use crate::layer::Layer;

thread_local! {
    /// A bit for each.
    static OFF: Cell<u32> = const { Cell::new(0) };
}

/// The layers that can be left out, one at a time. `LandlockFiles` stands for all of Landlock. Without
/// `NoNewPrivs` the kernel grants neither Landlock nor seccomp, so that cannot be left out. `Uid` can, and it runs as
/// whoever starts it; but by itself that changes nothing, as others stop first what it stops.
pub const CAN_BE_OFF: [Layer; 7] = [
    Layer::Seccomp,
    Layer::LandlockFiles,
    Layer::PrivateRoot,
    Layer::PidNamespace,
    Layer::NetNamespace,
    Layer::IpcNamespace,
    Layer::Capabilities,
];

/// Does something; the compartments that this thread starts meanwhile are without those layers.
pub fn without<T>(layers: &[Layer], work: impl FnOnce() -> T) -> T {
    OFF.set(layers.iter().fold(0, |off, layer| off | bit(*layer)));
    let done = work();
    OFF.set(0);
    done
}

const fn bit(layer: Layer) -> u32 {
    1 << layer as u32
}

/// Whether this thread's compartments are without it.
pub(crate) fn is_off(layer: Layer) -> bool {
    OFF.get() & bit(layer) != 0
}

/// A program's filter: its own, or one that allows everything.
pub(crate) fn filter(filter: Vec<libc::sock_filter>) -> Vec<libc::sock_filter> {
    if !is_off(Layer::Seccomp) {
        return filter;
    }
    let code = (libc::BPF_RET | libc::BPF_K) as u16;
    vec![libc::sock_filter { code, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }]
}
