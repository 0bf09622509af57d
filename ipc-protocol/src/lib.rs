//! Frames, messages, versions and the session state machine. Sans-IO.
