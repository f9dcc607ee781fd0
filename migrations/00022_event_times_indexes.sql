-- +goose NO TRANSACTION
-- The indexes for reading a legal entity's events by time.
-- Live: built CONCURRENTLY, which neither holds up readers nor writers; it waits for the transactions under way, so it has no
-- lock_timeout: given up half-way it would leave an invalid index. One that is left by an interrupted run is dropped first.

-- +goose Up
DROP INDEX CONCURRENTLY IF EXISTS ops.event_feed_event_time_idx;
CREATE INDEX CONCURRENTLY event_feed_event_time_idx ON ops.event_feed (legal_entity_id, event_time, position);
COMMENT ON INDEX ops.event_feed_event_time_idx IS 'Serves reading by time: the events of a legal entity in a window, in their order.';
DROP INDEX CONCURRENTLY IF EXISTS ops.event_feed_undated_idx;
CREATE INDEX CONCURRENTLY event_feed_undated_idx ON ops.event_feed (legal_entity_id, position) WHERE event_time IS NULL;
COMMENT ON INDEX ops.event_feed_undated_idx IS
    'Serves reading by time: the places that tell no moment. It is empty when the retention has removed the events of before schema version 21.';

-- +goose Down
DROP INDEX CONCURRENTLY ops.event_feed_undated_idx;
DROP INDEX CONCURRENTLY ops.event_feed_event_time_idx;
