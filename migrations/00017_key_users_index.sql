-- +goose NO TRANSACTION
-- The index that makes a key unique for its user.
-- Live: built CONCURRENTLY, which neither holds up readers nor writers; it waits for the transactions under way, so it has no
-- lock_timeout: given up half-way it would leave an invalid index. One that is left by an interrupted run is dropped first.

-- +goose Up
DROP INDEX CONCURRENTLY IF EXISTS ops.idempotency_records_user_key;
CREATE UNIQUE INDEX CONCURRENTLY idempotency_records_user_key ON ops.idempotency_records (client_id, user_key);
COMMENT ON INDEX ops.idempotency_records_user_key IS
    'A user uses a key once: of equal requests at the same moment one inserts. Serves every look-up. Rows of the release before have null and are outside of it.';

-- +goose Down
DROP INDEX CONCURRENTLY ops.idempotency_records_user_key;
