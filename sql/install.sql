-- Installs the database side of icinga-desktop-bridge, or upgrades it.
--
-- Usage:       psql -v ON_ERROR_STOP=1 -f sql/install.sql DATABASE
--              If several schemas hold Icinga Notifications' tables: PGOPTIONS='-c search_path=NAME' psql ...
--              Not with --single-transaction: the indexes are built concurrently.
-- Privileges:  owner of Icinga Notifications' tables, CREATE on the database and on the tables' schema; no superuser.
--              PostgreSQL 13 or newer.
-- What it does: creates the schema icinga_desktop with six functions and a table; eight triggers on incident_history,
--              incident, contact and browser_session, which send NOTIFY and write nothing; a partial index on
--              incident_history and a hash index on browser_session.
--              Icinga Notifications and Icinga Web may keep running: they never wait longer than half a second
--              for a lock of this script, and building the indexes blocks no writer.
-- Repeatable:  yes, it installs, repairs or upgrades. If everything is in place, it takes no lock that a writer notices.
-- Undo:        sql/uninstall.sql. PostgreSQL refuses to drop or retype a column that a trigger's condition reads
--              (incident.severity, and those of contact and browser_session); if an upgrade of Icinga's schema fails on
--              that, uninstall before it and install again after it. Renaming a column is safe: Icinga's writes succeed,
--              at worst with a WARNING instead of a notification.
--
-- How it works: history rows are the queue, and NOTIFY is only the doorbell. At most one of the transactions that are being
--              committed rings (an advisory lock decides which); the others do nothing, and the daemon finds their rows as
--              well. While many commits follow each other the daemon holds the lock itself, between two looks that it makes in
--              any case, so that nobody rings. It also looks at the table every few seconds, so a bell that is lost
--              delays an event, but does not lose it.
--
-- What it costs a writer:
-- - A transaction that rings, or announces a severity, a contact or a sign-out, takes PostgreSQL's lock for committing a
--   NOTIFY, once. There is one for all databases of the server, so such a transaction can wait for a commit with NOTIFY in
--   another database. Transactions that need not ring do not take it.
-- - The row triggers that ring, and the one on severity, are deferred to the commit. So each row is an entry in the
--   transaction's list of trigger events, and a statement that changes the definition of incident or incident_history or
--   truncates it, later in the same transaction, fails with "pending trigger events" (SQLSTATE 55006). Run
--   SET CONSTRAINTS ALL IMMEDIATE before such a statement. If that rings, no other transaction does until this one ends.
-- - PREPARE TRANSACTION fails for a transaction that rang or announced something: PostgreSQL cannot prepare a NOTIFY.
-- - A role that can connect to the database can hold the advisory lock. Then nobody rings, and events come as late as the
--   daemon's next look.

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

-- One installation at a time. It comes before lock_timeout, because a run that waits here holds nothing that Icinga wants.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtextextended('icinga_desktop.install', 0)); END $$;

SET LOCAL lock_timeout = '5s';

-- Can this version be installed on this server, over what is installed?
DO $$
DECLARE
  installed integer;
BEGIN
  IF current_setting('server_version_num')::integer < 130000 THEN
    RAISE EXCEPTION 'PostgreSQL % is too old: icinga-desktop-bridge needs 13 or newer', current_setting('server_version');
  END IF;

  IF to_regprocedure('icinga_desktop.version()') IS NOT NULL THEN
    installed := icinga_desktop.version();
    IF installed > 3 THEN
      RAISE EXCEPTION 'icinga_desktop version % is installed, which is newer than version 3 of this script', installed
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
  -- If search_path has an incident_history, its schema is used, even if it is incomplete: an error is better than silently
  -- using another schema than the requested one.
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
      ('incident_history', ARRAY['id', 'incident_id', 'contact_id', 'channel_id', 'time', 'message', 'type', 'old_severity',
        'new_severity', 'notification_state']),
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

  -- PostgreSQL would report this, too, but one table at a time and only in the middle of the work.
  SELECT string_agg(format('%s of %s', pg_get_userbyid(relowner), relname), ', ' ORDER BY relname) INTO problem
  FROM pg_class
  WHERE oid IN ('browser_session'::regclass, 'contact'::regclass, 'incident'::regclass, 'incident_history'::regclass)
    AND NOT pg_has_role(relowner, 'USAGE');
  IF problem IS NOT NULL THEN
    RAISE EXCEPTION 'role % does not own the tables of Icinga Notifications', quote_ident(current_user)
      USING DETAIL = 'The owner is ' || problem || '.', HINT = 'Run this script as the owner.';
  END IF;

  -- Not IF NOT EXISTS, which needs CREATE on the database even if an administrator has created the schema.
  IF to_regnamespace('icinga_desktop') IS NULL THEN
    CREATE SCHEMA icinga_desktop;
  END IF;
  COMMENT ON SCHEMA icinga_desktop IS
    'icinga-desktop-bridge: functions that announce what Icinga Notifications and Icinga Web write, and the browsers'' positions';
END $$;

CREATE OR REPLACE FUNCTION icinga_desktop.version() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT 3';
COMMENT ON FUNCTION icinga_desktop.version() IS
  'Version of the database side of icinga-desktop-bridge; the daemon refuses one that it does not know';

-- The position of each browser, so that a browser that reconnects to any bridge receives what it missed. The daemon writes it,
-- the triggers do not. Columns that version 2 lacks are added below.
CREATE TABLE IF NOT EXISTS icinga_desktop.browser_position (
  browser bytea CONSTRAINT pk_browser_position PRIMARY KEY,
  floor bigint NOT NULL,
  above bigint[] NOT NULL,
  changed_at timestamptz NOT NULL,
  CONSTRAINT ck_browser_position_browser_is_sha256 CHECK (length(browser) = 32)
);
COMMENT ON TABLE icinga_desktop.browser_position IS
  'Which notifications browsers have received; written by icinga-desktop-bridge, which removes rows whose browser_session is gone';
COMMENT ON COLUMN icinga_desktop.browser_position.browser IS 'SHA-256 of browser_session.php_session_id';
COMMENT ON COLUMN icinga_desktop.browser_position.floor IS 'Every incident_history.id up to this one is done';
COMMENT ON COLUMN icinga_desktop.browser_position.above IS 'Each incident_history.id above the floor that is done, too';
COMMENT ON COLUMN icinga_desktop.browser_position.changed_at IS 'When the daemon last wrote the row';

-- Rules for the trigger functions, which run inside Icinga's transactions, with the writer's rights and search_path:
--
-- - Every function, operator and type is schema-qualified. They read no table, write nothing, and wait for no lock.
-- - Whatever fails becomes a WARNING. A handler uses SQLERRM and SQLSTATE only, because an error that is raised in a handler
--   is not caught: NEW.id, for example, fails once the column has another name.
-- - A full NOTIFY queue only fails the COMMIT, where nothing can catch it. So they stop before the queue is full.
-- - Where one transaction can send many notifications, the NOTIFY itself is outside of the block with the handler: the
--   memory of a block that has sent one (8 kB) is kept until the transaction ends. What could fail there is checked before.
-- - Every role that can connect can LISTEN. So a payload holds ids and digests only, never a name or a session id.

-- The bell. The lock is -9171514625053088493 = hashtextextended('icinga_desktop.bell', 0).
--
-- The setting icinga_desktop.rung lasts until the transaction ends. It holds the table that rang, and is 'incident_history'
-- from the first history row on; announce_severity reads that.
CREATE OR REPLACE FUNCTION icinga_desktop.ring() RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
  rung CONSTANT pg_catalog.text := pg_catalog.current_setting('icinga_desktop.rung', true);
BEGIN
  -- Outside of the blocks, because a block for each row would double what the row costs. Reading a setting cannot fail.
  IF rung OPERATOR(pg_catalog.=) 'incident_history' OR rung OPERATOR(pg_catalog.=) TG_TABLE_NAME THEN
    RETURN NULL;
  END IF;
  BEGIN
    PERFORM pg_catalog.set_config('icinga_desktop.rung', TG_TABLE_NAME, true);
    IF rung OPERATOR(pg_catalog.=) 'incident' THEN
      -- The bell was rung already, by this transaction or by the one that holds the lock.
      RETURN NULL;
    END IF;
    -- A block of its own, because a failure must not undo the setting: each further row would try and warn again.
    BEGIN
      -- A transaction that does not get the lock need not ring. The one that holds it has not committed yet; when its bell
      -- arrives, the daemon sees which transactions are still running, and looks again once they have ended.
      IF pg_catalog.pg_try_advisory_xact_lock(-9171514625053088493) THEN
        IF pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.>) 0.9::pg_catalog.float8 THEN
          RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'the NOTIFY queue is nearly full';
        END IF;
        PERFORM pg_catalog.pg_notify('icinga_desktop_bell', '');
      END IF;
    EXCEPTION WHEN OTHERS THEN
      RAISE WARNING 'icinga_desktop: desktop notifications will be late: % (SQLSTATE %); the transaction goes on',
        SQLERRM, SQLSTATE;
    END;
  EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'icinga_desktop: desktop notifications will be late: % (SQLSTATE %); the transaction goes on',
      SQLERRM, SQLSTATE;
  END;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION icinga_desktop.ring() IS
  'Announces at commit, on channel icinga_desktop_bell, that there is something new, unless another transaction is just doing so';

CREATE OR REPLACE FUNCTION icinga_desktop.ring_truncated() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  IF pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.>) 0.9::pg_catalog.float8 THEN
    RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'the NOTIFY queue is nearly full';
  END IF;
  PERFORM pg_catalog.pg_notify('icinga_desktop_bell', 'truncated');
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'icinga_desktop: TRUNCATE of the history is not announced: % (SQLSTATE %); the transaction goes on',
    SQLERRM, SQLSTATE;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION icinga_desktop.ring_truncated() IS
  'Announces, on channel icinga_desktop_bell, that the history was truncated, after which its ids may start again';

CREATE OR REPLACE FUNCTION icinga_desktop.announce_severity() RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
  payload pg_catalog.text;
BEGIN
  BEGIN
    -- Icinga Notifications itself wrote this change, so it decided who is notified. It writes history rows before the
    -- severity, and deferred triggers run in the order of the statements, so ring() has run by now.
    IF pg_catalog.current_setting('icinga_desktop.rung', true) OPERATOR(pg_catalog.=) 'incident_history' THEN
      RETURN NULL;
    END IF;
    IF pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.>) 0.9::pg_catalog.float8 THEN
      RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'the NOTIFY queue is nearly full';
    ELSIF NOT pg_catalog.has_function_privilege('pg_catalog.pg_notify(pg_catalog.text, pg_catalog.text)', 'EXECUTE') THEN
      RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied for function pg_notify';
    END IF;
    payload := pg_catalog.format('{"incident_id":%s}', NEW.id);
  EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'icinga_desktop: an incident''s new severity is not announced: % (SQLSTATE %); the transaction goes on',
      SQLERRM, SQLSTATE;
    RETURN NULL;
  END;
  PERFORM pg_catalog.pg_notify('icinga_desktop_incident', payload);
  RETURN NULL;
END $$;
COMMENT ON FUNCTION icinga_desktop.announce_severity() IS
  'Announces an incident whose severity was changed by others than Icinga Notifications, on channel icinga_desktop_incident';

CREATE OR REPLACE FUNCTION icinga_desktop.announce_contact() RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
  payload pg_catalog.text;
BEGIN
  BEGIN
    IF pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.>) 0.9::pg_catalog.float8 THEN
      RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'the NOTIFY queue is nearly full';
    ELSIF NOT pg_catalog.has_function_privilege('pg_catalog.pg_notify(pg_catalog.text, pg_catalog.text)', 'EXECUTE') THEN
      RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied for function pg_notify';
    END IF;
    -- OLD, because a deleted row has no NEW.
    payload := pg_catalog.format('{"contact_id":%s}', OLD.id);
  EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'icinga_desktop: a change of a contact is not announced: % (SQLSTATE %); the transaction goes on',
      SQLERRM, SQLSTATE;
    RETURN NULL;
  END;
  PERFORM pg_catalog.pg_notify('icinga_desktop_session', payload);
  RETURN NULL;
END $$;
COMMENT ON FUNCTION icinga_desktop.announce_contact() IS
  'Announces that a contact''s username changed or that the contact is gone, on channel icinga_desktop_session';

-- A new row needs no announcement: a user's newer sign-in with the same browser deletes the older row.
CREATE OR REPLACE FUNCTION icinga_desktop.announce_session() RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
  payload pg_catalog.text;
BEGIN
  BEGIN
    IF pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.>) 0.9::pg_catalog.float8 THEN
      RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'the NOTIFY queue is nearly full';
    ELSIF NOT pg_catalog.has_function_privilege('pg_catalog.pg_notify(pg_catalog.text, pg_catalog.text)', 'EXECUTE') THEN
      RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied for function pg_notify';
    END IF;
    payload := pg_catalog.format('{"browser":"%s"}', pg_catalog.encode(
      pg_catalog.sha256(pg_catalog.convert_to(OLD.php_session_id::pg_catalog.text, 'UTF8')), 'hex'));
  EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'icinga_desktop: a sign-out is not announced: % (SQLSTATE %); the transaction goes on', SQLERRM, SQLSTATE;
    RETURN NULL;
  END;
  PERFORM pg_catalog.pg_notify('icinga_desktop_session', payload);
  RETURN NULL;
END $$;
COMMENT ON FUNCTION icinga_desktop.announce_session() IS
  'Announces which browser session changed or ended, by the SHA-256 of its id, on channel icinga_desktop_session';

-- The triggers. Their names are fixed: the daemon finds Icinga's tables by them.
DO $$
DECLARE
  give_up CONSTANT timestamptz := clock_timestamp() + interval '5 s';
  locks text[];
  changes text[];
  moved_from text;
  statement text;
  position_changes text[];
BEGIN
  -- Definitions are written as pg_get_triggerdef prints them: what compares equal is left alone, and with it the table.
  WITH wanted AS (
    SELECT to_regclass(table_name) AS tgrelid, trigger_name::name AS tgname, comment,
      format('CREATE %sTRIGGER %s %s ON %s %sFOR EACH %s %sEXECUTE FUNCTION icinga_desktop.%s()',
        CASE WHEN timing = 'deferred' THEN 'CONSTRAINT ' END, trigger_name, event, table_name,
        CASE WHEN timing = 'deferred' THEN 'DEFERRABLE INITIALLY DEFERRED ' END,
        CASE WHEN timing = 'statement' THEN 'STATEMENT' ELSE 'ROW' END,
        'WHEN (' || condition || ') ', function_name) AS definition
    FROM (VALUES
      ('incident_history', 'icinga_desktop_bell', 'deferred', 'AFTER INSERT', 'ring',
        NULL,
        'there are new history rows'),
      ('incident_history', 'icinga_desktop_truncate', 'statement', 'AFTER TRUNCATE', 'ring_truncated',
        NULL,
        'the history was truncated'),
      ('incident', 'icinga_desktop_incident', 'deferred', 'AFTER INSERT', 'ring',
        NULL,
        'there are new incidents'),
      ('incident', 'icinga_desktop_severity', 'deferred', 'AFTER UPDATE OF severity', 'announce_severity',
        'old.severity IS DISTINCT FROM new.severity AND new.severity IS NOT NULL',
        'an incident''s severity really changes'),
      -- As text: citext calls anna and Anna the same, but only where its operators are found.
      ('contact', 'icinga_desktop_contact_update', 'row', 'AFTER UPDATE', 'announce_contact',
        'old.username::text IS DISTINCT FROM new.username::text OR old.deleted IS DISTINCT FROM new.deleted',
        'a contact''s username or deletion mark really changes'),
      ('contact', 'icinga_desktop_contact_delete', 'row', 'AFTER DELETE', 'announce_contact',
        NULL,
        'a contact is gone'),
      -- Not authenticated_at: the daemon itself refreshes it for browsers that stay connected.
      ('browser_session', 'icinga_desktop_session_update', 'row', 'AFTER UPDATE', 'announce_session',
        'old.php_session_id::text IS DISTINCT FROM new.php_session_id::text '
        'OR old.username::text IS DISTINCT FROM new.username::text OR old.user_agent IS DISTINCT FROM new.user_agent',
        'a browser session really changes, its age aside'),
      ('browser_session', 'icinga_desktop_session_delete', 'row', 'AFTER DELETE', 'announce_session',
        NULL,
        'a browser signs out')
    ) AS t (table_name, trigger_name, timing, event, function_name, condition, comment)
  ), existing AS (
    -- Our triggers, found by their functions, also those of other versions and on tables that Icinga no longer uses.
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
    -- DROP TRIGGER needs ACCESS EXCLUSIVE; a weaker lock first and a stronger one later could deadlock.
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

  -- The columns that version 2 lacks. The daemon uses this table, so its lock is asked for together with the others.
  SELECT array_agg(format(change, column_name, data_type, comment) ORDER BY change, column_name) INTO position_changes
  FROM (VALUES
    ('epoch', 'text', 'Which sequence the ids in floor and above come from; NULL in rows that version 2 wrote'),
    ('signed_in_at', 'bigint',
      'When Icinga Web authenticated the browser''s sign-in, in ms since the Unix epoch; NULL in rows that version 2 wrote')
  ) AS c (column_name, data_type, comment), (VALUES
    ('ALTER TABLE icinga_desktop.browser_position ADD COLUMN IF NOT EXISTS %I %s'),
    ('COMMENT ON COLUMN icinga_desktop.browser_position.%1$I IS %3$L')
  ) AS s (change)
  WHERE NOT EXISTS (
    SELECT FROM pg_attribute
    WHERE attrelid = 'icinga_desktop.browser_position'::regclass AND attname = column_name
      AND col_description(attrelid, attnum) = comment
  );
  IF position_changes IS NOT NULL THEN
    locks := array_prepend('LOCK TABLE icinga_desktop.browser_position IN ACCESS EXCLUSIVE MODE', locks);
    changes := position_changes || changes;
  END IF;

  -- All locks or none, and each requested only briefly. For any order, some writer has the opposite one
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

-- From version 2.
DROP FUNCTION IF EXISTS icinga_desktop.announce_notified();

COMMIT;

-- The indexes, outside of the transaction because of CONCURRENTLY. A second run must not take an index that is being built
-- for the leftover of an interrupted run. It must not wait for the first run either, which waits for all older snapshots.
SELECT pg_try_advisory_lock(hashtextextended('icinga_desktop.index', 0)) AS builds_indexes,
  relnamespace::regnamespace AS schema
FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE tgname = 'icinga_desktop_bell' AND tgfoid = 'icinga_desktop.ring()'::regprocedure
\gset icinga_desktop_

\if :icinga_desktop_builds_indexes
  WITH wanted AS (
    SELECT name, (:'icinga_desktop_schema' || '.' || table_name)::regclass AS on_table, definition, comment
    FROM (VALUES
      ('idx_icinga_desktop_notified', 'incident_history', '(contact_id, id) WHERE type = ''notified''',
        'what a contact was notified of, for browsers that come back'),
      -- Hash: names are only compared for equality, and long names do not make the index larger.
      ('idx_icinga_desktop_session', 'browser_session', 'USING hash (username)',
        'a user''s browser sessions, for browsers that sign in')
    ) AS i (name, table_name, definition, comment)
  ), present AS (
    SELECT indexrelid, name, indisvalid AND indrelid = on_table AS usable,
      obj_description(indexrelid, 'pg_class') IS NOT NULL AS commented
    FROM wanted JOIN pg_class ON relname = name JOIN pg_index ON indexrelid = pg_class.oid
  )
  -- Each in its own statement, as CONCURRENTLY requires.
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
