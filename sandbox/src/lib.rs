//! From a policy to an enforced process. Linux only, synchronous.

pub mod seccomp;
