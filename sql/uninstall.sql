-- Removes what sql/install.sql of this or an earlier version created: triggers, functions, table, indexes and schema. Removes
-- nothing else, and nothing of Icinga's.
--
-- Usage:       psql -v ON_ERROR_STOP=1 -f sql/uninstall.sql DATABASE
--              Not with --single-transaction: the indexes are dropped concurrently.
-- Privileges:  the role that ran install.sql (it owns what was created), or a superuser.
-- What it does: as above. Icinga can keep running. The script fails, and removes nothing, if the schema icinga_desktop contains
--              something that install.sql did not create, or something depends on it. Stop the daemon first.
-- Repeatable:  yes, also if nothing is installed.
-- Undo:        sql/install.sql. Privileges on Icinga's tables from sql/grants.sql remain; DROP OWNED BY ROLE removes them.

\set ON_ERROR_STOP on
\set AUTOCOMMIT on
\set QUIET on
\set SHOW_CONTEXT never
\timing off
\pset format unaligned
\pset tuples_only on

SET client_min_messages = warning;

BEGIN ISOLATION LEVEL READ COMMITTED;

-- Not while install.sql is running.
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtextextended('icinga_desktop.install', 0)); END $$;

SET LOCAL lock_timeout = '5s';

DO $$
DECLARE
  give_up CONSTANT timestamptz := clock_timestamp() + interval '5 s';
  locks text[];
  drops text[];
  statement text;
BEGIN
  SELECT array_agg(DISTINCT format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', tgrelid::regclass)),
    array_agg(format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass))
  INTO locks, drops
  FROM pg_trigger
  WHERE tgfoid IN (SELECT oid FROM pg_proc WHERE pronamespace = to_regnamespace('icinga_desktop'));

  -- In short attempts, all locks or none; install.sql explains why.
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

  IF drops IS NOT NULL THEN
    FOREACH statement IN ARRAY drops LOOP
      EXECUTE statement;
    END LOOP;
  END IF;
END $$;

DROP TABLE IF EXISTS icinga_desktop.browser_position;
DROP FUNCTION IF EXISTS icinga_desktop.announce_session();
DROP FUNCTION IF EXISTS icinga_desktop.announce_contact();
DROP FUNCTION IF EXISTS icinga_desktop.announce_severity();
DROP FUNCTION IF EXISTS icinga_desktop.ring_truncated();
DROP FUNCTION IF EXISTS icinga_desktop.ring();
-- From version 2.
DROP FUNCTION IF EXISTS icinga_desktop.announce_notified();
DROP FUNCTION IF EXISTS icinga_desktop.version();
DROP SCHEMA IF EXISTS icinga_desktop;

COMMIT;

-- By name in any schema: indexes move with their tables.
SELECT format('DROP INDEX CONCURRENTLY IF EXISTS %s', oid::regclass)
FROM pg_class WHERE relname IN ('idx_icinga_desktop_notified', 'idx_icinga_desktop_session') AND relkind = 'i'
\gexec

\echo 'icinga_desktop is uninstalled: triggers, functions, table, indexes and schema were removed.'
