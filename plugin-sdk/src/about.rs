//! Who a plugin is.

/// A plugin's name, version and purpose, as its package has them. Made by [`about!`](crate::about).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// The crate's name. The id under which it is installed comes from its manifest.
    pub name: &'static str,
    /// The crate's version.
    pub version: &'static str,
    /// One line about it; empty when the crate has no description.
    pub description: &'static str,
}

/// The [`About`] of the crate that uses it, from its `Cargo.toml`.
#[macro_export]
macro_rules! about {
    () => {
        $crate::About {
            name: ::core::env!("CARGO_PKG_NAME"),
            version: ::core::env!("CARGO_PKG_VERSION"),
            description: ::core::env!("CARGO_PKG_DESCRIPTION"),
        }
    };
}
