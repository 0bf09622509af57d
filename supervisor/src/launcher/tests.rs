//! The launcher as a real process, with a supervisor that a test plays.
//!
//! A test starts this very test binary three times over, in the roles of [`roles`]: the launcher, the
//! supervisor (which hands its link to the test and then only waits to be killed), and where a shell
//! is not enough the plugin. So every death here is a real one.

mod disk;
mod harness;
mod hostile_requests;
mod packages;
mod roles;
mod service;
mod silent_places;
mod stopping;
mod supervision;
mod taken_over;
mod trust;
mod trusting;
