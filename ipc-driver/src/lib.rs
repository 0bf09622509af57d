//! Drives a session of the protocol over a tokio stream.
