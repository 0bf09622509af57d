//! What the author of a Bulkhead plugin links.
mod method;
pub use method::Method;
#[doc(hidden)]
#[derive(Clone, Copy)]
pub enum Encoding {
    Json,
}
