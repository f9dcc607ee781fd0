-- The frame that the versioned migrations stand in: the roles, and the schema that holds the migration history.
-- Run before every migration by whoever migrates; each step does nothing where it is done already, so a DBA may run it by
-- hand once (psql -f migrations/roles.sql) and then migrate with a login that has no right to create roles.
--
--   reiestr_owner  owns every object and runs the versioned migrations and the operator's commands
--   reiestr_app    what the service becomes on every connection; owns nothing, has only the grants its queries need
--
-- Neither can log in: grant them to logins of your own (GRANT reiestr_app TO service_login).
-- Locks: none on tables; pg_authid and pg_namespace rows only. Roles are common to the whole server, so two databases
-- may be prepared at once, or one database twice: the loser of that race finds role and schema made.
DO $frame$
DECLARE
    wanted text;
    -- From version 16 on whoever creates a role is a member of it, but may not become it before it is granted.
    needed text := CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['reiestr_owner', 'reiestr_app'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        IF NOT pg_catalog.pg_has_role(current_user, wanted, needed) THEN
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
