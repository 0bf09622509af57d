//! From a policy to an enforced process. Linux only, synchronous.
