//! A session that writes what Icinga Notifications writes for an event: the same statements in the same order, prepared, each
//! with a round trip. `tests/common/icinga.rs` does so too, but prepares each statement anew and panics when a session ends.

use tokio_postgres::{Client, Config, Error, NoTls, Statement};

/// Creates the object of all incidents.
pub(crate) const OBJECT: &str = "INSERT INTO object (id, source_id, name) VALUES (sha256('o'), 1, 'db1!disk') ON CONFLICT DO NOTHING";

/// A session that acts as Icinga.
pub(crate) struct Writer {
    client: Client,
    /// The process that serves it.
    pub(crate) backend: u32,
    open: Statement,
    lock: Statement,
    opened: Statement,
    changed: Statement,
    other: Statement,
    contact: Statement,
    notified: Statement,
    save: Statement,
}

impl Writer {
    pub(crate) async fn connect(config: &Config) -> Result<Self, Error> {
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        let prepare = async |sql: &str| client.prepare(sql).await;
        let backend: i32 = client
            .query_one("SELECT pg_backend_pid()", &[])
            .await?
            .get(0);
        Ok(Self {
            backend: backend.unsigned_abs(),
            open: prepare(
                "INSERT INTO incident (object_id, started_at, severity) VALUES (sha256('o'), 0, 'crit') RETURNING id",
            )
            .await?,
            lock: prepare("SELECT severity::text FROM incident WHERE id = $1 FOR UPDATE").await?,
            opened: prepare("INSERT INTO incident_history (incident_id, time, type) VALUES ($1, 0, 'opened')")
                .await?,
            changed: prepare(
                "INSERT INTO incident_history (incident_id, time, type, old_severity, new_severity) \
                 VALUES ($1, 0, 'incident_severity_changed', $2::text::severity, $3::text::severity)",
            )
            .await?,
            other: prepare(
                "INSERT INTO incident_history (incident_id, time, type) VALUES ($1, 0, $2::text::history_type)",
            )
            .await?,
            contact: prepare(
                "INSERT INTO incident_contact (incident_id, contact_id, role) VALUES ($1, $2, 'recipient') \
                 ON CONFLICT (incident_id, contact_id) DO UPDATE SET role = incident_contact.role",
            )
            .await?,
            notified: prepare(
                "INSERT INTO incident_history \
                   (incident_id, contact_id, channel_id, time, message, type, notification_state) \
                 VALUES ($1, $2, $3, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, $4, 'notified', 'pending')",
            )
            .await?,
            save: prepare(
                "INSERT INTO incident (id, object_id, started_at, severity, recovered_at, mute_reason, message) \
                 SELECT id, object_id, started_at, $2::text::severity, NULL, mute_reason, $3 FROM incident WHERE id = $1 \
                 ON CONFLICT (id) DO UPDATE SET severity = EXCLUDED.severity, recovered_at = EXCLUDED.recovered_at, \
                   mute_reason = EXCLUDED.mute_reason, message = EXCLUDED.message",
            )
            .await?,
            client,
        })
    }

    /// Begins a transaction and opens an incident in it that notifies these (contact, channel). Returns its id.
    pub(crate) async fn open(&self, message: &str, notified: &[(i64, i64)]) -> Result<i64, Error> {
        self.client.batch_execute("BEGIN").await?;
        let incident = self.client.query_one(&self.open, &[]).await?.get(0);
        self.client.execute(&self.opened, &[&incident]).await?;
        self.notify(incident, "crit", message, notified).await?;
        Ok(incident)
    }

    /// Begins a transaction and changes an incident's severity in it.
    pub(crate) async fn change(
        &self,
        incident: i64,
        severity: &str,
        message: &str,
        notified: &[(i64, i64)],
    ) -> Result<(), Error> {
        self.client.batch_execute("BEGIN").await?;
        let row = self.client.query_one(&self.lock, &[&incident]).await?;
        let old: &str = row.get(0);
        self.client
            .execute(&self.changed, &[&incident, &old, &severity])
            .await?;
        self.notify(incident, severity, message, notified).await
    }

    /// Ends the transaction with such a statement.
    pub(crate) async fn end(&self, statement: &str) -> Result<(), Error> {
        self.client.batch_execute(statement).await
    }

    /// What follows the first row of history, up to the last statement of Icinga.
    async fn notify(
        &self,
        incident: i64,
        severity: &str,
        message: &str,
        notified: &[(i64, i64)],
    ) -> Result<(), Error> {
        for what in ["rule_matched", "escalation_triggered"] {
            self.client
                .execute(&self.other, &[&incident, &what])
                .await?;
        }
        for (contact, _) in notified {
            self.client
                .execute(&self.contact, &[&incident, contact])
                .await?;
        }
        for (contact, channel) in notified {
            self.client
                .execute(&self.notified, &[&incident, contact, channel, &message])
                .await?;
        }
        self.client
            .execute(&self.save, &[&incident, &severity, &message])
            .await?;
        Ok(())
    }
}
