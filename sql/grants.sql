-- Grants a role the privileges that the daemon icinga-desktop-bridge needs, and no others.
--
-- Usage:       psql -v ON_ERROR_STOP=1 -v role=NAME -f sql/grants.sql DATABASE
--              after sql/install.sql, and again after the tables were created again. The role must exist; create it for
--              example with CREATE ROLE icinga_desktop_bridge LOGIN PASSWORD '...'.
-- Privileges:  owner of Icinga Notifications' tables and of the schema icinga_desktop, as for install.sql.
-- What it does: USAGE on the two schemas, EXECUTE on icinga_desktop.version(), SELECT on the seven tables that the daemon
--              reads (of contact, only on the columns id, username and deleted); and, if table event exists (schema 0.x), on
--              its messages. To write: its own table of positions; and browser_session: UPDATE of authenticated_at, to keep
--              the sessions of connected browsers, and DELETE of forgotten sessions, as the PHP daemon did. The default right
--              to CONNECT is assumed. The functions that identify the cluster and the sequences (pg_control_system,
--              pg_relation_filenode and others) are open to every role.
-- Repeatable:  yes.
-- Undo:        DROP OWNED BY NAME (in this database; it also drops what the role owns).

\set ON_ERROR_STOP on
\set AUTOCOMMIT on
\set QUIET on
\set SHOW_CONTEXT never
\timing off
\pset format unaligned
\pset tuples_only on

SET client_min_messages = warning;

\if :{?role}
\else
  \set role ''
\endif

BEGIN;

-- psql does not substitute its variables inside a dollar-quoted body.
SELECT set_config('icinga_desktop.role', :'role', true) AS role \gset

DO $$
DECLARE
  grantee CONSTANT text := current_setting('icinga_desktop.role');
  tables_schema regnamespace;
  has_events boolean;
  refused text;
BEGIN
  IF grantee = '' THEN
    RAISE EXCEPTION 'no role was named' USING HINT = 'psql -v ON_ERROR_STOP=1 -v role=NAME -f sql/grants.sql';
  ELSIF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = grantee) THEN
    RAISE EXCEPTION 'role % does not exist', quote_ident(grantee)
      USING HINT = 'Create it first, for example: CREATE ROLE ' || quote_ident(grantee) || ' LOGIN PASSWORD ''...''';
  END IF;

  SELECT relnamespace INTO tables_schema
  FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
  WHERE tgname = 'icinga_desktop_bell'
    AND tgfoid IN (SELECT oid FROM pg_proc WHERE pronamespace = to_regnamespace('icinga_desktop'));
  IF tables_schema IS NULL THEN
    RAISE EXCEPTION 'icinga_desktop is not installed in database "%"', current_database()
      USING HINT = 'Run sql/install.sql first.';
  END IF;
  PERFORM set_config('search_path', tables_schema::text, true);

  -- Only if necessary: Icinga's schema may be public, which the tables' owner can use, but not grant.
  IF NOT has_schema_privilege(grantee, tables_schema, 'USAGE') THEN
    EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I', tables_schema, grantee);
  END IF;
  EXECUTE format('GRANT USAGE ON SCHEMA icinga_desktop TO %I', grantee);
  EXECUTE format('GRANT EXECUTE ON FUNCTION icinga_desktop.version() TO %I', grantee);
  -- Whole tables, because Icinga moves columns between releases, and an upgrade must not take a right from the bridge. Of
  -- contact, only columns: the bridge does not need people's full names.
  EXECUTE format('GRANT SELECT (id, username, deleted) ON contact TO %I', grantee);
  EXECUTE format('GRANT SELECT ON browser_session, contactgroup_member, incident, incident_contact, incident_history, object '
    'TO %I', grantee);

  -- Schema 0.x: the table with the messages of notifications that have none themselves.
  has_events := 2 = (SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('event')
    AND attname IN ('id', 'message') AND NOT attisdropped);
  IF has_events THEN
    EXECUTE format('GRANT SELECT (id, message) ON event TO %I', grantee);
  END IF;

  EXECUTE format('GRANT UPDATE (authenticated_at), DELETE ON browser_session TO %I', grantee);
  EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON icinga_desktop.browser_position TO %I', grantee);

  -- A GRANT without the right to grant is only a warning.
  SELECT string_agg(what, ', ') INTO refused
  FROM (
    SELECT 'USAGE on schema ' || s FROM unnest(ARRAY[tables_schema, 'icinga_desktop'::regnamespace]) AS s
    WHERE NOT has_schema_privilege(grantee, s, 'USAGE')
    UNION ALL
    SELECT 'SELECT on ' || t FROM unnest(ARRAY['browser_session', 'contactgroup_member', 'incident', 'incident_contact',
      'incident_history', 'object']) AS t
    WHERE NOT has_table_privilege(grantee, t, 'SELECT')
    UNION ALL
    SELECT format('SELECT (%s) on contact', c) FROM unnest(ARRAY['id', 'username', 'deleted']) AS c
    WHERE NOT has_column_privilege(grantee, 'contact', c, 'SELECT')
    UNION ALL
    SELECT format('SELECT (%s) on event', attname) FROM pg_attribute
    WHERE has_events AND attrelid = to_regclass('event') AND attname IN ('id', 'message')
      AND NOT has_column_privilege(grantee, attrelid, attnum, 'SELECT')
    UNION ALL
    SELECT 'DELETE on browser_session' WHERE NOT has_table_privilege(grantee, 'browser_session', 'DELETE')
    UNION ALL
    SELECT 'UPDATE (authenticated_at) on browser_session'
    WHERE NOT has_column_privilege(grantee, 'browser_session', 'authenticated_at', 'UPDATE')
    UNION ALL
    SELECT p || ' on icinga_desktop.browser_position' FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p
    WHERE NOT has_table_privilege(grantee, 'icinga_desktop.browser_position', p)
    UNION ALL
    SELECT 'EXECUTE on icinga_desktop.version()'
    WHERE NOT has_function_privilege(grantee, 'icinga_desktop.version()', 'EXECUTE')
  ) AS r (what);
  IF refused IS NOT NULL THEN
    RAISE EXCEPTION 'role % may not grant %', quote_ident(current_user), refused
      USING HINT = 'Run this script as the owner of Icinga Notifications'' tables.';
  END IF;
END $$;

COMMIT;

SELECT format('Role %I may now do what icinga-desktop-bridge needs.', :'role');
