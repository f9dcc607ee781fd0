-- Where the trace of an action goes on when its job is carried out.
-- Live: a column without default, so no row is rewritten; ops.jobs is locked (ACCESS EXCLUSIVE) for a change of the catalogue only.

-- +goose Up
SET LOCAL lock_timeout = '2s';

ALTER TABLE ops.jobs ADD COLUMN trace_context text;
COMMENT ON COLUMN ops.jobs.trace_context IS 'W3C traceparent of the request that was accepted, so that the job continues its trace; null: it was not traced.';

-- +goose Down
SET LOCAL lock_timeout = '2s';
ALTER TABLE ops.jobs DROP COLUMN trace_context;
