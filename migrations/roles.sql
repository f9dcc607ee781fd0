-- The roles, and the schema that holds the migration history. The versioned migrations need both. `migrate` runs this file before every migration.
-- Each step does nothing if it is done already, so a DBA may also run it once by hand (psql -f migrations/roles.sql), and migrate afterwards with a
-- login that has no right to create roles.
--
--   reiestr_owner     owns every object and runs the versioned migrations and the operator's commands
--   reiestr_app       the role of the service on every connection; owns nothing, has only the grants that its queries need
--   reiestr_readonly  for people who read: states, kinds and moments, without secrets and without personal data (00013)
--
-- No role can log in: grant them to logins of your own (GRANT reiestr_app TO service_login). If a version brings another role, a login with the right
-- to create roles must run this file again.
--
-- Roles that exist are not changed, as a DBA may have reasons for their settings. But reiestr_app and reiestr_readonly are refused if they have more
-- than their grants (SUPERUSER, for example): then no grant would protect anything. The error says which statement mends it.
--
-- Time-outs that are set on a role apply to sessions that log in as this role, not to sessions that SET ROLE to it. So the service and the commands
-- send theirs with each connection (db/pg/session.go, migrations.go). Those of reiestr_readonly are for a DBA who lets it log in. A login of your own
-- that is granted reiestr_readonly needs the same time-outs, because a forgotten transaction of a reader holds up vacuum for all tables.
-- Locks: none on tables, only rows of pg_authid and pg_namespace. Roles are common to the whole server, so two databases may be prepared at once, or
-- one database twice: the second run finds the role and the schema made.
DO $frame$
DECLARE
    wanted text;
    wrong record;
    -- From version 16 on a role that creates another role is a member of it, but may SET ROLE to it only after a grant.
    needed text := CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    FOR wrong IN
        SELECT r.rolname AS name, pg_catalog.concat_ws(' ', CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
            CASE WHEN r.rolcreatedb THEN 'CREATEDB' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END,
            CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END) AS attributes,
            EXISTS (SELECT FROM pg_catalog.pg_roles o WHERE o.rolname = 'reiestr_owner' AND pg_catalog.pg_has_role(r.oid, o.oid, 'MEMBER')) AS owns
        FROM pg_catalog.pg_roles r WHERE r.rolname IN ('reiestr_app', 'reiestr_readonly') ORDER BY r.rolname
    LOOP
        IF wrong.attributes <> '' THEN
            RAISE EXCEPTION 'role % has more than its grants: ALTER ROLE % NO%', wrong.name, wrong.name,
                pg_catalog.replace(wrong.attributes, ' ', ' NO');
        ELSIF wrong.owns THEN
            RAISE EXCEPTION 'role % has more than its grants: it is a member of reiestr_owner, REVOKE this', wrong.name;
        END IF;
    END LOOP;
    FOREACH wanted IN ARRAY ARRAY['reiestr_owner', 'reiestr_app', 'reiestr_readonly'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
                IF wanted = 'reiestr_readonly' THEN
                    ALTER ROLE reiestr_readonly SET default_transaction_read_only = on;
                    ALTER ROLE reiestr_readonly SET statement_timeout = '5min';
                    ALTER ROLE reiestr_readonly SET lock_timeout = '2s';
                    ALTER ROLE reiestr_readonly SET idle_in_transaction_session_timeout = '1min';
                END IF;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        IF wanted <> 'reiestr_readonly' AND NOT pg_catalog.pg_has_role(current_user, wanted, needed) THEN
            EXECUTE pg_catalog.format('GRANT %I TO CURRENT_USER', wanted);
        END IF;
    END LOOP;
    IF NOT pg_catalog.has_database_privilege('reiestr_owner', pg_catalog.current_database(), 'CREATE') THEN
        EXECUTE pg_catalog.format('GRANT CREATE ON DATABASE %I TO reiestr_owner', pg_catalog.current_database());
    END IF;
    IF pg_catalog.to_regnamespace('ops') IS NULL THEN
        BEGIN
            CREATE SCHEMA ops AUTHORIZATION reiestr_owner;
            COMMENT ON SCHEMA ops IS 'What the service keeps for itself: jobs, events, access, migration history.';
        EXCEPTION WHEN duplicate_schema OR unique_violation THEN
            NULL;
        END;
    END IF;
END
$frame$;
