//! What the author of a Bulkhead plugin links.
