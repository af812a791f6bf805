//! Writes to the database as Icinga Notifications and Icinga Web do: the same statements in the same order.

use tokio_postgres::types::ToSql;

use super::postgres::Session;

/// A released version of Icinga Notifications' tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    V0_1,
    V0_2,
    V1_0,
}

impl Shape {
    /// Each of them, oldest first.
    pub(crate) const ALL: [Self; 3] = [Self::V0_1, Self::V0_2, Self::V1_0];

    /// The file that creates the tables.
    pub(crate) fn fixture(self) -> &'static str {
        match self {
            Self::V0_1 => "tests/fixtures/schema-0.1.sql",
            Self::V0_2 => "tests/fixtures/schema-0.2.sql",
            Self::V1_0 => "tests/fixtures/schema-1.0.sql",
        }
    }

    /// Whether each message is in table `event` as well.
    fn has_events(self) -> bool {
        self != Self::V1_0
    }

    /// Whether `incident` has the columns `message` and `mute_reason`.
    fn incident_has_texts(self) -> bool {
        self == Self::V1_0
    }
}

/// What Icinga Notifications handles in one transaction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Event<'a> {
    /// The open incident of the event; `None` opens one.
    pub(crate) incident: Option<i64>,
    /// The name of the object of a new incident.
    pub(crate) object: &'a str,
    /// The new severity, required for a new incident; `None` is an escalation by time.
    pub(crate) severity: Option<&'a str>,
    /// The check plugin's output.
    pub(crate) message: Option<&'a str>,
    /// The notified contacts by channel, and the state of each notification: (contact, channel, `pending` or `suppressed`).
    pub(crate) notified: &'a [(i64, i64, &'a str)],
}

/// The ids of the rows of an [`Event`].
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) incident: i64,
    /// One row per entry of [`Event::notified`], in its order.
    pub(crate) history: Vec<i64>,
}

/// A database session that acts as Icinga.
pub(crate) struct Icinga {
    session: Session,
    shape: Shape,
}

/// Milliseconds since the epoch, as Icinga stores them.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

impl Icinga {
    /// Uses a session whose search_path has the tables of that version.
    pub(crate) fn new(session: Session, shape: Shape) -> Self {
        Self { session, shape }
    }

    /// The session, for manual statements of a test.
    pub(crate) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Runs statements like a user of psql.
    pub(crate) async fn by_hand(&self, sql: &str) {
        self.session.run(sql).await;
    }

    /// Creates a contact for an Icinga Web user, and returns its id.
    pub(crate) async fn contact(&self, username: &str) -> i64 {
        self.id(
            &format!(
                "INSERT INTO contact (full_name, username, default_channel_id, changed_at) \
                 VALUES ('Full name of ' || $1::text, $1::text, 1, {NOW}) RETURNING id"
            ),
            &[&username],
        )
        .await
    }

    /// Deletes a contact as the web module does: the row stays, without the name.
    pub(crate) async fn delete_contact(&self, contact: i64) {
        self.execute(
            &format!(
                "UPDATE contact SET username = NULL, deleted = 'y', changed_at = {NOW} WHERE id = $1"
            ),
            &[&contact],
        )
        .await;
    }

    /// Puts a contact into a group.
    pub(crate) async fn group_member(&self, group: i64, contact: i64) {
        self.execute(
            &format!(
                "INSERT INTO contactgroup_member (contactgroup_id, contact_id, changed_at) VALUES ($1, $2, {NOW})"
            ),
            &[&group, &contact],
        )
        .await;
    }

    /// Creates an object, or finds it, and returns its id.
    pub(crate) async fn object(&self, name: &str) -> Vec<u8> {
        let inserted = "INSERT INTO object (id, source_id, name) VALUES (sha256(convert_to($1::text, 'UTF8')), 1, $1::text) \
             ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name RETURNING id";
        self.session
            .query_one(inserted, &[&name])
            .await
            .expect("the object is written")
            .get(0)
    }

    /// Opens an incident without recipients, and returns its id.
    pub(crate) async fn incident(&self, object: &str, severity: &str) -> i64 {
        let event = Event {
            object,
            severity: Some(severity),
            ..Event::default()
        };
        self.event(event).await.incident
    }

    /// Gives a contact a role (`recipient`, `subscriber`, `manager`) in an incident.
    pub(crate) async fn incident_contact(&self, incident: i64, contact: i64, role: &str) {
        self.execute(
            "INSERT INTO incident_contact (incident_id, contact_id, role) VALUES ($1, $2, $3::text::incident_role) \
             ON CONFLICT (incident_id, contact_id) DO UPDATE SET role = EXCLUDED.role",
            &[&incident, &contact, &role],
        )
        .await;
    }

    /// Gives the members of a contact group a role in an incident.
    pub(crate) async fn incident_group(&self, incident: i64, group: i64, role: &str) {
        self.execute(
            "INSERT INTO incident_contact (incident_id, contactgroup_id, role) VALUES ($1, $2, $3::text::incident_role) \
             ON CONFLICT (incident_id, contactgroup_id) DO UPDATE SET role = EXCLUDED.role",
            &[&incident, &group, &role],
        )
        .await;
    }

    /// Mutes an incident, or unmutes it.
    pub(crate) async fn mute(&self, incident: i64, reason: Option<&str>) {
        let update = if self.shape.incident_has_texts() {
            "UPDATE incident SET mute_reason = $2::text WHERE id = $1"
        } else {
            "UPDATE object SET mute_reason = $2::text WHERE id = (SELECT object_id FROM incident WHERE id = $1)"
        };
        self.execute(update, &[&incident, &reason]).await;
    }

    /// Handles an event in one transaction.
    pub(crate) async fn event(&self, event: Event<'_>) -> Written {
        self.session.run("BEGIN").await;
        let written = self.write(event).await;
        self.session.run("COMMIT").await;
        written
    }

    /// Writes the rows of an event, within the caller's transaction.
    pub(crate) async fn write(&self, event: Event<'_>) -> Written {
        let (incident, old_severity) = self.find_or_open(&event).await;
        let severity = event.severity.unwrap_or(&old_severity);

        if event.incident.is_none() {
            self.history(incident, "opened", None).await;
        } else if severity != old_severity {
            let change = Some((old_severity.as_str(), severity));
            self.history(incident, "incident_severity_changed", change)
                .await;
        }
        if !event.notified.is_empty() {
            self.history(incident, "rule_matched", None).await;
            self.history(incident, "escalation_triggered", None).await;
        }

        // A contact that is already more than a recipient stays that.
        for (contact, _, _) in event.notified {
            self.execute(
                "INSERT INTO incident_contact (incident_id, contact_id, role) VALUES ($1, $2, 'recipient') \
                 ON CONFLICT (incident_id, contact_id) DO UPDATE SET role = incident_contact.role",
                &[&incident, contact],
            )
            .await;
        }

        // 0.1 keeps the message only there: its first versions wrote none into the row.
        let of_row = event.message.filter(|_| self.shape != Shape::V0_1);
        let (column, value) = match event.message.filter(|_| self.shape.has_events()) {
            Some(message) => {
                let id = self.stored_event(incident, severity, message).await;
                (", event_id", format!(", {id}"))
            }
            None => ("", String::new()),
        };
        let mut history = Vec::new();
        for (contact, channel, state) in event.notified {
            let row = self
                .id(
                    &format!(
                        "INSERT INTO incident_history \
                         (incident_id, contact_id, channel_id, time, message, type, notification_state{column}) \
                         VALUES ($1, $2, $3, {NOW}, $4, 'notified', $5::text::notification_state{value}) RETURNING id"
                    ),
                    &[&incident, contact, channel, &of_row, state],
                )
                .await;
            history.push(row);
        }

        self.save(incident, severity, event.message).await;
        Written { incident, history }
    }

    /// Records how a channel answered (`sent` or `failed`), in a separate transaction.
    pub(crate) async fn answered(&self, history: i64, state: &str) {
        self.execute(
            &format!(
                "UPDATE incident_history SET notification_state = $2::text::notification_state, sent_at = {NOW} \
                 WHERE id = $1"
            ),
            &[&history, &state],
        )
        .await;
    }

    /// Signs a browser in as Icinga Web does, and returns its session id.
    pub(crate) async fn sign_in(&self, username: &str, user_agent: &str) -> String {
        let session_id = self
            .session
            .text("SELECT left(md5(random()::text), 26)")
            .await;
        let user_agent = match user_agent.trim() {
            "" => "default",
            trimmed => trimmed,
        };
        self.session.run("BEGIN").await;
        self.sign_out(&session_id).await;
        self.execute(
            "DELETE FROM browser_session WHERE username = $1::text::citext AND user_agent = $2",
            &[&username, &user_agent],
        )
        .await;
        self.execute(
            &format!(
                "INSERT INTO browser_session (php_session_id, username, user_agent, authenticated_at) \
                 VALUES ($1, $2::text, $3, {NOW})"
            ),
            &[&session_id, &username, &user_agent],
        )
        .await;
        self.session.run("COMMIT").await;
        session_id
    }

    /// Signs a browser out.
    pub(crate) async fn sign_out(&self, session_id: &str) {
        self.execute(
            "DELETE FROM browser_session WHERE php_session_id = $1",
            &[&session_id],
        )
        .await;
    }

    /// Locks the open incident or inserts a new one: its id and its current severity.
    async fn find_or_open(&self, event: &Event<'_>) -> (i64, String) {
        if let Some(incident) = event.incident {
            let locked = "SELECT severity::text FROM incident WHERE id = $1 FOR UPDATE";
            let row = self
                .session
                .query_one(locked, &[&incident])
                .await
                .expect("the incident exists");
            return (incident, row.get(0));
        }
        let severity = event.severity.expect("a new incident has a severity");
        let object = self.object(event.object).await;
        let incident = self
            .id(
                &format!(
                    "INSERT INTO incident (object_id, started_at, severity) VALUES ($1, {NOW}, $2::text::severity) \
                     RETURNING id"
                ),
                &[&object, &severity],
            )
            .await;
        (incident, severity.to_owned())
    }

    /// The row of table `event` for an event with a message.
    async fn stored_event(&self, incident: i64, severity: &str, message: &str) -> i64 {
        self.id(
            &format!(
                "INSERT INTO event (time, object_id, type, severity, message) \
                 SELECT {NOW}, object_id, 'state', $2::text::severity, $3 FROM incident WHERE id = $1 RETURNING id"
            ),
            &[&incident, &severity, &message],
        )
        .await
    }

    async fn history(&self, incident: i64, what: &str, change: Option<(&str, &str)>) {
        let (old, new) = change.unzip();
        self.execute(
            &format!(
                "INSERT INTO incident_history (incident_id, time, type, old_severity, new_severity) \
                 VALUES ($1, {NOW}, $2::text::history_type, $3::text::severity, $4::text::severity)"
            ),
            &[&incident, &what, &old, &new],
        )
        .await;
    }

    /// The upsert that comes last and first shows the new severity.
    async fn save(&self, incident: i64, severity: &str, message: Option<&str>) {
        let upsert = |more_columns: &str, more_values: &str, more_updates: &str| {
            format!(
                "INSERT INTO incident (id, object_id, started_at, severity, recovered_at{more_columns}) \
                 SELECT id, object_id, started_at, $2::text::severity, \
                   CASE WHEN $2::text = 'ok' THEN {NOW} END{more_values} \
                 FROM incident WHERE id = $1 \
                 ON CONFLICT (id) DO UPDATE SET \
                   severity = EXCLUDED.severity, recovered_at = EXCLUDED.recovered_at{more_updates}"
            )
        };
        if self.shape.incident_has_texts() {
            let upsert = upsert(
                ", mute_reason, message",
                ", mute_reason, $3::text",
                ", mute_reason = EXCLUDED.mute_reason, message = EXCLUDED.message",
            );
            self.execute(&upsert, &[&incident, &severity, &message])
                .await;
        } else {
            self.execute(&upsert("", "", ""), &[&incident, &severity])
                .await;
        }
    }

    async fn execute(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) {
        if let Err(error) = self.session.execute(sql, parameters).await {
            panic!("{sql}: {error:?}");
        }
    }

    async fn id(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> i64 {
        match self.session.query_one(sql, parameters).await {
            Ok(row) => row.get(0),
            Err(error) => panic!("{sql}: {error:?}"),
        }
    }
}
