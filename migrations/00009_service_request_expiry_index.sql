-- +goose NO TRANSACTION
-- The index that serves the expiry of service requests.
-- Live: built CONCURRENTLY, which neither holds up readers nor writers; it waits for the transactions under way, so it has no
-- lock_timeout: given up half-way it would leave an invalid index. One that is left by an interrupted run is dropped first.

-- +goose Up
DROP INDEX CONCURRENTLY IF EXISTS medical_events.service_requests_active_expiration_date_id_idx;
-- Use, release and process change neither the columns nor the predicate, so their updates stay HOT; what ends a service request
-- (complete, expiry) leaves the index with it.
CREATE INDEX CONCURRENTLY service_requests_active_expiration_date_id_idx
    ON medical_events.service_requests (expiration_date, id) WHERE status = 'active';
COMMENT ON INDEX medical_events.service_requests_active_expiration_date_id_idx IS
    'Serves the expiry: active service requests, those that expire first in front.';

-- +goose Down
DROP INDEX CONCURRENTLY medical_events.service_requests_active_expiration_date_id_idx;
