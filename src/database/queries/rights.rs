//! What the role may write. What it may read shows when statements are prepared.

use crate::database::{QueryError, Session};

impl Session {
    /// The rights to write that the daemon needs, but its role does not have. Queried once, by `check`, and so not prepared.
    pub(crate) async fn missing_rights(&self) -> Result<Vec<String>, QueryError> {
        let statement = "SELECT right_to FROM (
               VALUES ('UPDATE (authenticated_at) on browser_session',
                       has_column_privilege('browser_session', 'authenticated_at', 'UPDATE')),
                      ('DELETE on browser_session', has_table_privilege('browser_session', 'DELETE'))
               UNION ALL
               SELECT privilege || ' on icinga_desktop.browser_position',
                      has_table_privilege('icinga_desktop.browser_position', privilege)
               FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
             ) AS needed (right_to, granted) WHERE NOT granted";
        let rows = self.query(statement, &[]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}
