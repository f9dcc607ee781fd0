-- Two schemas keep the two databases of the domain apart, so that each can move to a server of its own: no foreign key
-- crosses from medical_events to prm. The third, ops, is made with the roles (roles.sql).
-- Live: creates only; no lock on any existing table.
--
-- Moments a row records are statement_timestamp(), not now(): a transaction that waited for a row lock writes after the one it
-- waited for, and its rows must say so.

-- +goose Up
SET LOCAL lock_timeout = '2s';

-- Made with the roles already, where the migration history lives.
CREATE SCHEMA IF NOT EXISTS ops;
-- +goose StatementBegin
DO $$
BEGIN
    COMMENT ON TABLE ops.schema_versions IS 'Migration history, kept by the migrator: one row for each version applied.';
    COMMENT ON COLUMN ops.schema_versions.id IS 'Order of the rows.';
    COMMENT ON COLUMN ops.schema_versions.version_id IS 'Number of the migration; 0 stands for the empty database.';
    COMMENT ON COLUMN ops.schema_versions.is_applied IS 'True: applied.';
    COMMENT ON COLUMN ops.schema_versions.tstamp IS 'When it was applied, UTC.';
    COMMENT ON CONSTRAINT schema_versions_pkey ON ops.schema_versions IS 'Each row has its place in the order.';
END
$$;
-- +goose StatementEnd
GRANT SELECT ON ops.schema_versions TO reiestr_app;

CREATE SCHEMA prm;
COMMENT ON SCHEMA prm IS 'Registry of parties: legal entities, divisions, employees, licences, dictionaries, chart parameters.';

CREATE SCHEMA medical_events;
COMMENT ON SCHEMA medical_events IS 'Service requests (electronic referrals) and their histories.';

GRANT USAGE ON SCHEMA prm, medical_events, ops TO reiestr_app;

-- Both are plain SQL so that the planner inlines them; bodies are parsed at creation, so no search_path is involved.
-- +goose StatementBegin
CREATE FUNCTION ops.instant(as_of timestamptz) RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce(as_of, pg_catalog.transaction_timestamp());
-- +goose StatementEnd
COMMENT ON FUNCTION ops.instant(timestamptz) IS
    'The moment a transaction decides at: the given one (tests, "as of" commands), else the start of the transaction. One value per transaction.';

-- +goose StatementBegin
CREATE FUNCTION ops.business_date(as_of timestamptz, time_zone text) RETURNS date
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (ops.instant(as_of) AT TIME ZONE time_zone)::date;
-- +goose StatementEnd
COMMENT ON FUNCTION ops.business_date(timestamptz, text) IS
    'D of the contract: the calendar date of ops.instant in the business time zone. One value per transaction.';

-- +goose StatementBegin
CREATE FUNCTION ops.schema_version() RETURNS bigint
    LANGUAGE sql STABLE
    AS 'SELECT max(version_id) FROM ops.schema_versions WHERE is_applied';
-- +goose StatementEnd
COMMENT ON FUNCTION ops.schema_version() IS 'Number of the newest migration applied; a process is ready only if it is the one it needs.';

-- +goose Down
SET LOCAL lock_timeout = '2s';
DROP FUNCTION ops.schema_version();
DROP FUNCTION ops.business_date(timestamptz, text);
DROP FUNCTION ops.instant(timestamptz);
REVOKE SELECT ON ops.schema_versions FROM reiestr_app;
REVOKE USAGE ON SCHEMA ops FROM reiestr_app;
DROP SCHEMA medical_events;
DROP SCHEMA prm;
