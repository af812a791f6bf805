//! The names of the daemon's database sessions in log, metrics and `pg_stat_activity`.

/// The start of our sessions' `application_name` in `pg_stat_activity`; the purpose follows.
pub(crate) const APPLICATION_PREFIX: &str = "icinga-desktop-bridge ";

/// The daemon's database sessions; as values of a label.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum DatabaseSession {
    /// The session that listens.
    Listener,
    /// The session that reads events.
    Query,
    /// The session that reads sign-ins.
    SignIn,
}

impl DatabaseSession {
    /// The session's `application_name`.
    pub(crate) fn application_name(self) -> String {
        format!("{APPLICATION_PREFIX}{self}")
    }
}
