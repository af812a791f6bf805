-- Installs the database side of icinga-desktop-bridge, or upgrades it.
--
-- Usage:       psql -v ON_ERROR_STOP=1 -f sql/install.sql DATABASE
--              If several schemas hold Icinga Notifications' tables: PGOPTIONS='-c search_path=NAME' psql ...
--              Not with --single-transaction: the indexes are built concurrently.
-- Privileges:  owner of Icinga Notifications' tables, CREATE on the database and on the tables' schema; no superuser.
--              PostgreSQL 13 or newer.
-- What it does: the schema icinga_desktop with five functions and a table; eight triggers on incident_history, incident, contact and
--              browser_session, which only NOTIFY; a partial index on incident_history and a hash index on browser_session.
--              Icinga Notifications and Icinga Web may keep running: they never wait longer than half a second
--              for a lock of this script, and building the indexes blocks no writer.
-- Repeatable:  yes, it installs, repairs or upgrades. Where everything is in place it takes no lock that a writer notices.
-- Undo:        sql/uninstall.sql. PostgreSQL refuses to drop or retype a column that a trigger's condition reads; should
--              an upgrade of Icinga's schema meet that, uninstall before it and install again after it.

\set ON_ERROR_STOP on
\set AUTOCOMMIT on
\set QUIET on
\set SHOW_CONTEXT never
\timing off
\pset format unaligned
\pset tuples_only on

SET client_min_messages = warning;

-- READ COMMITTED, so that a run that had to wait for another one sees what that one did.
BEGIN ISOLATION LEVEL READ COMMITTED;

-- One installation at a time. It comes before lock_timeout, because whoever waits here holds nothing that Icinga wants.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtextextended('icinga_desktop.install', 0)); END $$;

SET LOCAL lock_timeout = '5s';

-- Is this a server and a database that this version can be installed in?
DO $$
DECLARE
  installed integer;
BEGIN
  IF current_setting('server_version_num')::integer < 130000 THEN
    RAISE EXCEPTION 'PostgreSQL % is too old: icinga-desktop-bridge needs 13 or newer', current_setting('server_version');
  END IF;

  IF to_regprocedure('icinga_desktop.version()') IS NOT NULL THEN
    installed := icinga_desktop.version();
    IF installed > 2 THEN
      RAISE EXCEPTION 'icinga_desktop version % is installed, which is newer than version 2 of this script', installed
        USING HINT = 'Run the install.sql that came with the newer release.';
    END IF;
  END IF;
END $$;

-- Where are Icinga's tables, and are they what the bridge can read? From here on, search_path is their schema.
DO $$
DECLARE
  wanted CONSTANT name[] := ARRAY['browser_session', 'contact', 'contactgroup_member', 'incident', 'incident_contact',
    'incident_history', 'object'];
  tables_schema regnamespace;
  candidates regnamespace[];
  found text;
  problem text;
BEGIN
  -- If search_path leads to an incident_history, that schema it is, even if it then turns out to be incomplete:
  -- silently taking another schema than the one asked for would be worse than an error.
  SELECT relnamespace INTO tables_schema FROM pg_class WHERE oid = to_regclass('incident_history');

  IF tables_schema IS NULL THEN
    SELECT array_agg(relnamespace ORDER BY relnamespace) FILTER (WHERE cardinality(tables) = cardinality(wanted)),
      string_agg(format('schema %s has only %s', relnamespace::regnamespace, array_to_string(tables, ', ')), '; ')
    INTO candidates, found
    FROM (
      SELECT relnamespace, array_agg(relname ORDER BY relname) AS tables FROM pg_class
      WHERE relname = ANY (wanted) AND relkind = 'r'
      GROUP BY relnamespace
    ) AS per_schema;

    IF candidates IS NULL THEN
      RAISE EXCEPTION 'no schema of database "%" has the tables of Icinga Notifications (%): %',
          current_database(), array_to_string(wanted, ', '), coalesce(found, 'none of them was found')
        USING HINT = 'Connect to the database of Icinga Notifications.';
    ELSIF cardinality(candidates) > 1 THEN
      RAISE EXCEPTION 'several schemas of database "%" have the tables of Icinga Notifications: %',
          current_database(), array_to_string(candidates, ', ')
        USING HINT = 'Name the one to use: PGOPTIONS=''-c search_path=NAME'' psql ...';
    END IF;
    tables_schema := candidates[1];
  END IF;
  PERFORM set_config('search_path', tables_schema::text, true);

  SELECT string_agg(table_name, ', ' ORDER BY table_name) INTO problem
  FROM unnest(wanted) AS table_name
  WHERE NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = tables_schema AND relname = table_name AND relkind = 'r');
  IF problem IS NOT NULL THEN
    RAISE EXCEPTION 'schema % has incident_history, but lacks %: this is not a supported Icinga Notifications schema (0.1 to 1.0)',
        tables_schema, problem
      USING HINT = 'If the tables are in another schema: PGOPTIONS=''-c search_path=NAME'' psql ...';
  END IF;

  SELECT string_agg(format('table %s lacks columns %s', table_name, columns), '; ' ORDER BY table_name) INTO problem
  FROM (
    SELECT table_name, string_agg(column_name, ', ' ORDER BY position) AS columns
    FROM (VALUES
      ('browser_session', ARRAY['php_session_id', 'username', 'user_agent', 'authenticated_at']),
      ('contact', ARRAY['id', 'username', 'deleted']),
      ('contactgroup_member', ARRAY['contactgroup_id', 'contact_id', 'deleted']),
      ('incident', ARRAY['id', 'object_id', 'severity']),
      ('incident_contact', ARRAY['incident_id', 'contact_id', 'contactgroup_id', 'role']),
      ('incident_history', ARRAY['id', 'incident_id', 'contact_id', 'time', 'message', 'type', 'new_severity',
        'notification_state']),
      ('object', ARRAY['id', 'name'])
    ) AS read_by_us (table_name, column_names), unnest(column_names) WITH ORDINALITY AS c (column_name, position)
    WHERE NOT EXISTS (
      SELECT FROM pg_attribute
      WHERE attrelid = to_regclass(table_name) AND attname = column_name AND NOT attisdropped
    )
    GROUP BY table_name
  ) AS lacking;
  -- 1.0 moved it.
  IF problem IS NULL AND NOT EXISTS (
    SELECT FROM pg_attribute
    WHERE attrelid IN ('incident'::regclass, 'object'::regclass) AND attname = 'mute_reason' AND NOT attisdropped
  ) THEN
    problem := 'neither table incident nor table object has the column mute_reason';
  END IF;
  IF problem IS NOT NULL THEN
    RAISE EXCEPTION '%: this is not a supported Icinga Notifications schema (0.1 to 1.0)', problem;
  END IF;

  -- PostgreSQL would say so too, but one table at a time and not before the middle of the work.
  SELECT string_agg(format('%s of %s', pg_get_userbyid(relowner), relname), ', ' ORDER BY relname) INTO problem
  FROM pg_class
  WHERE oid IN ('browser_session'::regclass, 'contact'::regclass, 'incident'::regclass, 'incident_history'::regclass)
    AND NOT pg_has_role(relowner, 'USAGE');
  IF problem IS NOT NULL THEN
    RAISE EXCEPTION 'role % does not own the tables of Icinga Notifications', quote_ident(current_user)
      USING DETAIL = 'The owner is ' || problem || '.', HINT = 'Run this script as the owner.';
  END IF;

  -- Not IF NOT EXISTS: that wants CREATE on the database even if an administrator has made the schema for us.
  IF to_regnamespace('icinga_desktop') IS NULL THEN
    CREATE SCHEMA icinga_desktop;
  END IF;
  COMMENT ON SCHEMA icinga_desktop IS
    'icinga-desktop-bridge: functions that announce what Icinga Notifications and Icinga Web write';
END $$;

CREATE OR REPLACE FUNCTION icinga_desktop.version() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT 2';
COMMENT ON FUNCTION icinga_desktop.version() IS
  'Version of the database side of icinga-desktop-bridge; the daemon refuses one that it does not know';

-- What browsers were told already, so that a browser that comes back is told the rest, whichever bridge it comes to. The
-- daemon writes it; no trigger does.
CREATE TABLE IF NOT EXISTS icinga_desktop.browser_position (
  browser bytea CONSTRAINT pk_browser_position PRIMARY KEY,
  floor bigint NOT NULL,
  above bigint[] NOT NULL,
  changed_at timestamptz NOT NULL,
  CONSTRAINT ck_browser_position_browser_is_sha256 CHECK (length(browser) = 32)
);
COMMENT ON TABLE icinga_desktop.browser_position IS
  'What browsers were told already; written by icinga-desktop-bridge, which removes rows whose browser_session is gone';
COMMENT ON COLUMN icinga_desktop.browser_position.browser IS 'SHA-256 of browser_session.php_session_id';
COMMENT ON COLUMN icinga_desktop.browser_position.floor IS 'Every incident_history.id up to this one is done';
COMMENT ON COLUMN icinga_desktop.browser_position.above IS 'Each incident_history.id above the floor that is done, too';
COMMENT ON COLUMN icinga_desktop.browser_position.changed_at IS 'When the daemon last wrote the row';

-- What the trigger functions have in common:
--
-- - They run inside Icinga's transactions, with the writer's rights and search_path. So every function and operator is
--   qualified, no table is read (where one must be, see announce_session), nothing is written and nothing locked.
-- - Whatever fails becomes a WARNING. A failure that only shows at COMMIT cannot be caught, and there is one: a full
--   NOTIFY queue. So they stop announcing before the queue is full.
-- - A payload holds ids and words of Icinga's enums only, because every role that may connect may LISTEN.

CREATE OR REPLACE FUNCTION icinga_desktop.announce_notified() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  IF pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.>) 0.9::pg_catalog.float8 THEN
    RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'the NOTIFY queue is nearly full';
  END IF;
  PERFORM pg_catalog.pg_notify('icinga_desktop_incident', pg_catalog.format(
    '{"tx":"%s","history_id":%s,"incident_id":%s,"contact_id":%s,"state":%s}',
    pg_catalog.pg_current_xact_id(), NEW.id, NEW.incident_id, NEW.contact_id,
    CASE WHEN NEW.notification_state IS NULL THEN 'null' ELSE pg_catalog.format('"%s"', NEW.notification_state) END
  ));
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'icinga_desktop: contact % gets no desktop notification of incident %: % (SQLSTATE %); the transaction goes on',
    NEW.contact_id, NEW.incident_id, SQLERRM, SQLSTATE;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION icinga_desktop.announce_notified() IS
  'Announces that a contact is notified about an incident, on channel icinga_desktop_incident';

CREATE OR REPLACE FUNCTION icinga_desktop.announce_severity() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  IF pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.>) 0.9::pg_catalog.float8 THEN
    RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'the NOTIFY queue is nearly full';
  END IF;
  PERFORM pg_catalog.pg_notify('icinga_desktop_incident', pg_catalog.format(
    '{"tx":"%s","incident_id":%s,"severity":"%s"}', pg_catalog.pg_current_xact_id(), NEW.id, NEW.severity
  ));
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'icinga_desktop: severity % of incident % is not announced: % (SQLSTATE %); the transaction goes on',
    NEW.severity, NEW.id, SQLERRM, SQLSTATE;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION icinga_desktop.announce_severity() IS
  'Announces an incident''s new severity, on channel icinga_desktop_incident';

CREATE OR REPLACE FUNCTION icinga_desktop.announce_contact() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  IF pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.>) 0.9::pg_catalog.float8 THEN
    RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'the NOTIFY queue is nearly full';
  END IF;
  -- OLD, because a deleted row has no NEW.
  PERFORM pg_catalog.pg_notify('icinga_desktop_session', pg_catalog.format('{"contact_id":%s}', OLD.id));
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'icinga_desktop: a change of contact % is not announced: % (SQLSTATE %); the transaction goes on',
    OLD.id, SQLERRM, SQLSTATE;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION icinga_desktop.announce_contact() IS
  'Announces that a contact''s username changed or that the contact is gone, on channel icinga_desktop_session';

-- The one that has to look something up: a session knows its user's name, which must not travel, and the contact knows
-- the id. People sign in rarely enough for a SET clause and one probe of the unique index on contact (username).
DO $$
DECLARE
  -- Where citext and its "=" are; pg_catalog if the column is a plain text.
  username_type_schema regnamespace;
BEGIN
  SELECT typnamespace INTO username_type_schema
  FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
  WHERE attrelid = 'contact'::regclass AND attname = 'username';

  EXECUTE format($create$
CREATE OR REPLACE FUNCTION icinga_desktop.announce_session() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, %s, %s, pg_temp
AS $function$
BEGIN
  IF pg_notification_queue_usage() > 0.9 THEN
    RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'the NOTIFY queue is nearly full';
  END IF;
  -- OLD is empty for a new session and NEW for a gone one; if a session changes hands, both users are concerned.
  PERFORM pg_notify('icinga_desktop_session', format('{"contact_id":%%s}', contact.id))
  FROM contact WHERE contact.username IN (OLD.username, NEW.username);
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'icinga_desktop: a sign-in or sign-out is not announced: %% (SQLSTATE %%); the transaction goes on',
    SQLERRM, SQLSTATE;
  RETURN NULL;
END $function$ $create$, quote_ident(current_schema()), username_type_schema);
END $$;
COMMENT ON FUNCTION icinga_desktop.announce_session() IS
  'Announces whose browser session began, changed or ended, by contact id, on channel icinga_desktop_session';

-- The triggers. Their names are fixed: the daemon finds Icinga's tables by them.
DO $$
DECLARE
  give_up CONSTANT timestamptz := clock_timestamp() + interval '5 s';
  locks text[];
  changes text[];
  moved_from text;
  statement text;
BEGIN
  -- Definitions are written as pg_get_triggerdef prints them: what compares equal is left alone, and with it the table.
  WITH wanted AS (
    SELECT to_regclass(table_name) AS tgrelid, trigger_name::name AS tgname, comment,
      format('CREATE TRIGGER %s %s ON %s FOR EACH ROW %sEXECUTE FUNCTION icinga_desktop.%s()',
        trigger_name, event, table_name, coalesce('WHEN (' || condition || ') ', ''), function_name) AS definition
    FROM (VALUES
      ('incident_history', 'icinga_desktop_notified', 'AFTER INSERT', 'announce_notified',
        format('new.type = ''notified''::%s AND new.contact_id IS NOT NULL', (
          SELECT format_type(atttypid, NULL) FROM pg_attribute
          WHERE attrelid = 'incident_history'::regclass AND attname = 'type')),
        'a contact is notified'),
      ('incident', 'icinga_desktop_severity_insert', 'AFTER INSERT', 'announce_severity',
        'new.severity IS NOT NULL',
        'an incident begins with a severity'),
      ('incident', 'icinga_desktop_severity_update', 'AFTER UPDATE', 'announce_severity',
        'old.severity IS DISTINCT FROM new.severity AND new.severity IS NOT NULL',
        'an incident''s severity really changes'),
      -- As text: citext calls anna and Anna the same, but only where its operators are found.
      ('contact', 'icinga_desktop_contact_update', 'AFTER UPDATE', 'announce_contact',
        'old.username::text IS DISTINCT FROM new.username::text OR old.deleted IS DISTINCT FROM new.deleted',
        'a contact''s username or deletion mark really changes'),
      ('contact', 'icinga_desktop_contact_delete', 'AFTER DELETE', 'announce_contact',
        NULL,
        'a contact is gone'),
      ('browser_session', 'icinga_desktop_session_insert', 'AFTER INSERT', 'announce_session',
        NULL,
        'a browser signs in'),
      -- Not authenticated_at: the daemon itself refreshes it for browsers that stay connected.
      ('browser_session', 'icinga_desktop_session_update', 'AFTER UPDATE', 'announce_session',
        'old.php_session_id::text IS DISTINCT FROM new.php_session_id::text '
        'OR old.username::text IS DISTINCT FROM new.username::text OR old.user_agent IS DISTINCT FROM new.user_agent',
        'a browser session really changes, its age aside'),
      ('browser_session', 'icinga_desktop_session_delete', 'AFTER DELETE', 'announce_session',
        NULL,
        'a browser signs out')
    ) AS t (table_name, trigger_name, event, function_name, condition, comment)
  ), existing AS (
    -- Ours by function wherever they are, also those of other versions and on tables that Icinga no longer uses.
    SELECT oid, tgrelid, tgname FROM pg_trigger
    WHERE tgfoid IN (SELECT oid FROM pg_proc WHERE pronamespace = 'icinga_desktop'::regnamespace)
      OR (tgrelid, tgname) IN (SELECT tgrelid, tgname FROM wanted)
  ), kept AS (
    SELECT pg_trigger.oid, tgrelid, tgname
    FROM pg_trigger JOIN wanted USING (tgrelid, tgname)
    WHERE pg_get_triggerdef(pg_trigger.oid, true) = definition AND tgenabled = 'O'
  ), dropped AS (
    SELECT tgrelid, tgname FROM existing WHERE oid NOT IN (SELECT oid FROM kept)
  ), created AS (
    SELECT tgrelid, tgname, definition, comment FROM wanted
    WHERE (tgrelid, tgname) NOT IN (SELECT tgrelid, tgname FROM kept)
  )
  SELECT
    -- DROP TRIGGER will ask for ACCESS EXCLUSIVE; to begin with less and ask for more later invites deadlocks.
    (SELECT array_agg(format('LOCK TABLE %s IN %s MODE', tgrelid::regclass, mode))
      FROM (
        SELECT tgrelid, CASE WHEN bool_or(drops) THEN 'ACCESS EXCLUSIVE' ELSE 'SHARE ROW EXCLUSIVE' END AS mode
        FROM (SELECT tgrelid, true FROM dropped UNION ALL SELECT tgrelid, false FROM created) AS c (tgrelid, drops)
        GROUP BY tgrelid
      ) AS needed),
    (SELECT array_agg(format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass)) FROM dropped)
      || (SELECT array_agg(definition) FROM created)
      || (SELECT array_agg(format('COMMENT ON TRIGGER %I ON %s IS %L', tgname, tgrelid::regclass,
            'icinga-desktop-bridge: announces that ' || comment)) FROM created),
    (SELECT string_agg(DISTINCT tgrelid::regclass::text, ', ') FROM dropped JOIN pg_class ON pg_class.oid = tgrelid
      WHERE relnamespace::regnamespace::text <> quote_ident(current_schema()))
  INTO locks, changes, moved_from;

  -- All locks or none, and each asked for but briefly. In whatever order they are taken, some writer has the opposite one
  -- (Icinga writes a new incident before its history and a known one after it). A wait shorter than deadlock_timeout
  -- ends with this script stepping back, never with PostgreSQL cancelling Icinga's transaction.
  WHILE locks IS NOT NULL LOOP
    BEGIN
      SET LOCAL lock_timeout = '100ms';
      FOREACH statement IN ARRAY locks LOOP
        EXECUTE statement;
      END LOOP;
      EXIT;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
      IF clock_timestamp() > give_up THEN
        RAISE EXCEPTION USING ERRCODE = 'lock_not_available',
          MESSAGE = 'the tables of Icinga Notifications are in use, giving up after 5 seconds; nothing was changed',
          HINT = 'Look in pg_stat_activity for a transaction that has been open for long (a backup, a clean-up, a forgotten '
            'session), then run this script again.';
      END IF;
      PERFORM pg_sleep(0.1 + random() / 10);
    END;
  END LOOP;

  IF changes IS NOT NULL THEN
    FOREACH statement IN ARRAY changes LOOP
      EXECUTE statement;
    END LOOP;
  END IF;
  IF moved_from IS NOT NULL THEN
    RAISE WARNING 'triggers of an earlier installation were removed from %', moved_from;
  END IF;
END $$;

COMMIT;

-- The indexes, outside of the transaction because of CONCURRENTLY. A second run must not take an index that is being built
-- for the leftover of an interrupted run; nor may it wait for the first, which waits for all older snapshots.
SELECT pg_try_advisory_lock(hashtextextended('icinga_desktop.index', 0)) AS builds_indexes,
  relnamespace::regnamespace AS schema
FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE tgname = 'icinga_desktop_notified' AND tgfoid = 'icinga_desktop.announce_notified()'::regprocedure
\gset icinga_desktop_

\if :icinga_desktop_builds_indexes
  WITH wanted AS (
    SELECT name, (:'icinga_desktop_schema' || '.' || table_name)::regclass AS on_table, definition, comment
    FROM (VALUES
      ('idx_icinga_desktop_notified', 'incident_history', '(contact_id, id) WHERE type = ''notified''',
        'what a contact was notified of, for browsers that come back'),
      -- Hash: names are only compared for equality, and the index stays as small as many long ones are.
      ('idx_icinga_desktop_session', 'browser_session', 'USING hash (username)',
        'a user''s browser sessions, for browsers that sign in')
    ) AS i (name, table_name, definition, comment)
  ), present AS (
    SELECT indexrelid, name, indisvalid AND indrelid = on_table AS usable,
      obj_description(indexrelid, 'pg_class') IS NOT NULL AS commented
    FROM wanted JOIN pg_class ON relname = name JOIN pg_index ON indexrelid = pg_class.oid
  )
  -- Each a statement of its own, which CONCURRENTLY asks for.
  SELECT statement FROM (
    SELECT 1, format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass) FROM present WHERE NOT usable
    UNION ALL
    SELECT 2, format('CREATE INDEX CONCURRENTLY %I ON %s %s', name, on_table, definition) FROM wanted
    WHERE name NOT IN (SELECT name FROM present WHERE usable)
    UNION ALL
    SELECT 3, format('COMMENT ON INDEX %s.%I IS %L', :'icinga_desktop_schema', name, 'icinga-desktop-bridge: ' || comment)
    FROM wanted WHERE name NOT IN (SELECT name FROM present WHERE usable AND commented)
  ) AS s (step, statement)
  ORDER BY step
  \gexec

  SELECT pg_advisory_unlock(hashtextextended('icinga_desktop.index', 0)) AS unlocked \gset icinga_desktop_
  \set icinga_desktop_builder ''
\else
  \set icinga_desktop_builder ' (another run is just building them)'
\endif

SELECT format('icinga_desktop version %s is installed on schema %s: 8 triggers, '
  'indexes idx_icinga_desktop_notified and idx_icinga_desktop_session%s. Next: icinga-desktop-bridge check',
  icinga_desktop.version(), :'icinga_desktop_schema', :'icinga_desktop_builder');
