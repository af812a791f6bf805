//! Settings: the files of Icinga Web, and what absence means.

pub mod ini;
mod secret;

pub use secret::Secret;
