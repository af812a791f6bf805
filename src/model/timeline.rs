//! Whose ids a database has.

/// Which course of events the ids of a database belong to: the cluster, its timeline, and the database. A failover makes
/// another one, and so does restoring a backup; what was committed then may be gone, and its ids be given to other rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline(pub(crate) String);

/// Within which the ids of `incident_history` and `incident` are each given once: the cluster, the database, and the files of
/// the sequences that give them. When a sequence restarts (`TRUNCATE … RESTART IDENTITY`, also by CASCADE), or the table is made
/// anew from a dump, PostgreSQL gives it another file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch(pub(crate) String);

impl Epoch {
    /// Whether these are the files of its sequences, as its text ends with them.
    pub(crate) fn has_files(&self, files: &str) -> bool {
        let rest = self.0.strip_suffix(files);
        rest.is_some_and(|rest| rest.ends_with('/'))
    }
}

#[cfg(test)]
impl From<&str> for Timeline {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

#[cfg(test)]
impl From<&str> for Epoch {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}
