//! What the integration tests share: building plugins, running `bulkhead`, waiting with a deadline.
