//! What looks have found, for monitoring and for `check`.

/// What monitoring wants to know of looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    /// The first look was made.
    pub(crate) looked: bool,
    /// The triggers that are missing or switched off.
    pub(crate) missing: Vec<String>,
    /// When a look last found rows for which no bell had rung, in milliseconds since the epoch of Unix.
    pub(crate) without_bell_at_ms: Option<i64>,
}
