//! Writers: transactions as Icinga writes them, until the test is over, whatever happens to the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_postgres::{Client, Error};

use crate::common::postgres::Database;

/// The number of writers, like several Icinga daemons on one database.
pub(super) const WRITERS: usize = 2;
/// Pause between two transactions of a writer.
const WRITE_EVERY: Duration = Duration::from_millis(50);
/// How many notifications of a writer wait for the answer of their channel.
const UNANSWERED: usize = 20;

/// One of the [`WRITERS`].
pub(super) struct Writer {
    database: Arc<Database>,
    number: usize,
    contacts: Vec<i64>,
    /// Each writer has its own, as each Icinga daemon has its own sources.
    incidents: Vec<i64>,
    rng: StdRng,
    /// The number of transactions so far.
    count: usize,
    /// Ids of notified rows whose channel has not answered yet.
    unanswered: Vec<i64>,
}

impl Writer {
    pub(super) fn new(
        database: &Arc<Database>,
        number: usize,
        contacts: &[i64],
        incidents: &[i64],
        seed: u64,
    ) -> Self {
        let own = incidents.iter().skip(number).step_by(WRITERS);
        Self {
            database: Arc::clone(database),
            number,
            contacts: contacts.to_vec(),
            incidents: own.copied().collect(),
            rng: StdRng::seed_from_u64(seed ^ (number as u64 + 1)),
            count: 0,
            unanswered: Vec::new(),
        }
    }

    /// Writes until it is stopped, with a new session whenever the old one was lost.
    pub(super) async fn write_until(mut self, stop: Arc<AtomicBool>) {
        let mut session = None;
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(WRITE_EVERY).await;
            if session.is_none() {
                session = self.database.try_connect().await;
            }
            let Some(client) = &session else { continue };
            // The database shows in the end whether it was committed.
            if self.write(client).await.is_err() {
                session = None;
            }
        }
    }

    /// Handles an event, and answers for channels.
    async fn write(&mut self, client: &Client) -> Result<(), Error> {
        self.count += 1;
        let text = format!("w{}e{}", self.number, self.count);
        client.batch_execute(&self.event(&text)).await?;
        let rows = client
            .query(
                "SELECT id FROM incident_history WHERE message = $1 AND type = 'notified'",
                &[&text],
            )
            .await?;
        self.unanswered
            .extend(rows.iter().map(|row| row.get::<_, i64>(0)));
        // Channels answer late, and out of order.
        while self.unanswered.len() > UNANSWERED {
            let index = self.rng.random_range(0..self.unanswered.len());
            let id = self.unanswered.swap_remove(index);
            let state = if self.rng.random_bool(0.9) {
                "sent"
            } else {
                "failed"
            };
            let answer = format!(
                "UPDATE incident_history SET notification_state = '{state}', sent_at = 1 WHERE id = {id}"
            );
            client.batch_execute(&answer).await?;
        }
        Ok(())
    }

    /// A transaction about one of the incidents, for up to three contacts.
    fn event(&mut self, text: &str) -> String {
        let severities = ["ok", "warning", "crit", "err", "alert"];
        let mut notified = Vec::new();
        for _ in 0..self.rng.random_range(1..=3) {
            notified.push(self.contacts[self.rng.random_range(0..self.contacts.len())]);
        }
        notified.sort_unstable();
        notified.dedup();
        let channels = self.rng.random_range(1..=2);
        let incident = self.incidents[self.rng.random_range(0..self.incidents.len())];
        let severity = severities[self.rng.random_range(0..severities.len())];
        transaction(incident, severity, &notified, channels, text)
    }
}

/// One event in Icinga's order: history, contacts, notified rows, the incident last.
fn transaction(
    incident: i64,
    severity: &str,
    contacts: &[i64],
    channels: i64,
    text: &str,
) -> String {
    const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let mut sql = format!(
        "BEGIN; SELECT 1 FROM incident WHERE id = {incident} FOR UPDATE;
         INSERT INTO incident_history (incident_id, time, type, new_severity)
           VALUES ({incident}, {NOW}, 'incident_severity_changed', '{severity}');"
    );
    for contact in contacts {
        for channel in 1..=channels {
            sql.push_str(&format!(
                "INSERT INTO incident_history (incident_id, contact_id, channel_id, time, message, type, notification_state)
                   VALUES ({incident}, {contact}, {channel}, {NOW}, '{text}', 'notified', 'pending');"
            ));
        }
    }
    sql.push_str(&format!(
        "UPDATE incident SET severity = '{severity}', message = '{text}' WHERE id = {incident}; COMMIT"
    ));
    sql
}
