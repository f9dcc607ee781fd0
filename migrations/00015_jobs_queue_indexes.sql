-- +goose NO TRANSACTION
-- Two indexes of the queue. The claim asks of each job whether it is the oldest pending one of its service request, and it looks for jobs
-- that are to be repeated. Without the indexes each question reads all pending jobs of the service request, or of the whole queue.
-- Live: built CONCURRENTLY, which neither holds up readers nor writers; it waits for the transactions under way, so it has no
-- lock_timeout: given up half-way it would leave an invalid index. One that is left by an interrupted run is dropped first.
-- Workers of the release before use neither index, and work as before.

-- +goose Up
DROP INDEX CONCURRENTLY IF EXISTS ops.jobs_pending_service_request_id_sequence_number_idx;
CREATE INDEX CONCURRENTLY jobs_pending_service_request_id_sequence_number_idx
    ON ops.jobs (service_request_id, sequence_number) WHERE status = 'pending';
COMMENT ON INDEX ops.jobs_pending_service_request_id_sequence_number_idx IS
    'Serves the questions for the oldest pending job of a service request, and for how many a client has there.';
DROP INDEX CONCURRENTLY IF EXISTS ops.jobs_repeated_not_before_idx;
CREATE INDEX CONCURRENTLY jobs_repeated_not_before_idx
    ON ops.jobs (not_before) WHERE not_before IS NOT NULL AND status NOT IN ('processed', 'failed');
COMMENT ON INDEX ops.jobs_repeated_not_before_idx IS 'Serves the repetition of jobs that could not be carried out: the earliest due in front. Its predicate is that of no other index, so that none is taken for it.';

-- +goose Down
DROP INDEX CONCURRENTLY ops.jobs_repeated_not_before_idx;
DROP INDEX CONCURRENTLY ops.jobs_pending_service_request_id_sequence_number_idx;
