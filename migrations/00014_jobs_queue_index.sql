-- +goose NO TRANSACTION
-- The index that the queue is walked by gets another predicate than the one that equal jobs are looked up by. With one predicate for both,
-- statistics from a quiet hour make them look equally small, and a look-up reads the whole queue by the wrong one. A job has ended when it is
-- not pending (jobs_ended_has_moment), so both hold the same rows.
-- Live: built and dropped CONCURRENTLY, which neither holds up readers nor writers; it waits for the transactions under way, so it has no
-- lock_timeout: given up half-way it would leave an invalid index. One that is left by an interrupted run is dropped first.
-- Workers of the release before walk the queue by the look-up index from here on, and sort it: slower with a long queue, right all the same.

-- +goose Up
DROP INDEX CONCURRENTLY IF EXISTS ops.jobs_not_ended_sequence_number_idx;
CREATE INDEX CONCURRENTLY jobs_not_ended_sequence_number_idx ON ops.jobs (sequence_number) WHERE ended_at IS NULL;
COMMENT ON INDEX ops.jobs_not_ended_sequence_number_idx IS
    'Serves the queue: what is pending, oldest first. Its predicate is not that of jobs_pending_request_key, so that neither is taken for the other.';
DROP INDEX CONCURRENTLY IF EXISTS ops.jobs_pending_sequence_number_idx;

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS ops.jobs_pending_sequence_number_idx;
CREATE INDEX CONCURRENTLY jobs_pending_sequence_number_idx ON ops.jobs (sequence_number) WHERE status = 'pending';
COMMENT ON INDEX ops.jobs_pending_sequence_number_idx IS 'The queue, oldest first.';
DROP INDEX CONCURRENTLY ops.jobs_not_ended_sequence_number_idx;
