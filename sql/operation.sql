-- The state of the database itself.

-- name: CheckReadiness :one
-- The schema version, and proof that the database answers and knows the business time zone.
-- Locks: none.
-- Index: none; schema_versions holds one row a migration.
-- Refusals: none.
SELECT ops.schema_version()::bigint AS schema_version, ops.business_date(sqlc.narg('as_of'), @time_zone) AS today;
