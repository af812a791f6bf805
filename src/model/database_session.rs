//! Which of the daemon's sessions with the database, as log, metrics and `pg_stat_activity` call it.

/// What our sessions are called in `pg_stat_activity`; behind it comes what each is for.
pub(crate) const APPLICATION_PREFIX: &str = "icinga-desktop-bridge ";

/// The sessions with the database, as a label calls them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum DatabaseSession {
    /// The one that listens.
    Listener,
    /// The one that reads events.
    Query,
    /// The one that reads sign-ins.
    SignIn,
}

impl DatabaseSession {
    /// What `pg_stat_activity` calls it.
    pub(crate) fn application_name(self) -> String {
        format!("{APPLICATION_PREFIX}{self}")
    }
}
