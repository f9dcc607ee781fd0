-- The frame that the versioned migrations stand in: the roles, and the schema that holds the migration history.
-- Run before every migration by whoever migrates; each step does nothing where it is done already, so a DBA may run it by
-- hand once (psql -f migrations/roles.sql) and then migrate with a login that has no right to create roles.
--
--   reiestr_owner     owns every object and runs the versioned migrations and the operator's commands
--   reiestr_app       what the service becomes on every connection; owns nothing, has only the grants its queries need
--   reiestr_readonly  for people who look: states, kinds and moments, without secrets and without persons (00013)
--
-- None can log in: grant them to logins of your own (GRANT reiestr_app TO service_login). A version that brings another role
-- needs this file run again by whoever may create roles.
--
-- Time-outs set on a role count for sessions that log in as that role, not for those that take it on: the service and the commands
-- send theirs with each connection (db/db.go, migrations.go). Those of reiestr_readonly are for a DBA who lets it log in; a login of
-- one's own that is granted it needs the same, as a forgotten transaction of a reader holds up vacuum for all tables.
-- Locks: none on tables; pg_authid and pg_namespace rows only. Roles are common to the whole server, so two databases
-- may be prepared at once, or one database twice: the loser of that race finds role and schema made.
DO $frame$
DECLARE
    wanted text;
    -- From version 16 on whoever creates a role is a member of it, but may not become it before it is granted.
    needed text := CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
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
