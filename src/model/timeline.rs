//! Identifies a generation of row ids.

/// The history of a database that ids belong to: the cluster, its timeline and the database. A failover starts a new one, and so
/// does restoring a backup: rows committed just before may be lost, and their ids reused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline(pub(crate) String);

/// The generation within which each id of `incident_history` and `incident` is assigned once: the cluster, the database and the
/// files of the sequences. PostgreSQL gives a sequence another file when it restarts (`TRUNCATE … RESTART IDENTITY`, also by
/// CASCADE) and when the table is restored from a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch(pub(crate) String);

impl Epoch {
    /// Whether these are the files of its sequences, which end its text.
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
