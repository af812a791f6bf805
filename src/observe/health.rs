//! The results of looks, for monitoring and `check`.

/// What monitoring needs to know about looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    /// Whether the first look succeeded.
    pub(crate) looked: bool,
    /// The triggers that are missing or disabled.
    pub(crate) missing: Vec<String>,
    /// When a look last found rows without a bell, in milliseconds since the Unix epoch.
    pub(crate) without_bell_at_ms: Option<i64>,
}
