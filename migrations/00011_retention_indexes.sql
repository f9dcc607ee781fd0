-- +goose NO TRANSACTION
-- The indexes that serve the retention of events.
-- Live: built CONCURRENTLY, which neither holds up readers nor writers; it waits for the transactions under way, so it has no
-- lock_timeout: given up half-way it would leave an invalid index. One that is left by an interrupted run is dropped first.

-- +goose Up
DROP INDEX CONCURRENTLY IF EXISTS ops.event_feed_position_idx;
-- Grows at its right end only. An index on event_id would find the places of an event as well, but its random ids would touch a page of
-- the whole index at each publication; whom an event concerns stands in the event.
CREATE INDEX CONCURRENTLY event_feed_position_idx ON ops.event_feed (position);
COMMENT ON INDEX ops.event_feed_position_idx IS 'Serves the retention of events: the oldest places of all feeds.';
DROP INDEX CONCURRENTLY IF EXISTS ops.events_unaddressed_event_time_idx;
-- Almost empty: nearly every event concerns somebody, and is found through the feed.
CREATE INDEX CONCURRENTLY events_unaddressed_event_time_idx ON ops.events (event_time) WHERE array_remove(legal_entity_ids, NULL) = '{}';
COMMENT ON INDEX ops.events_unaddressed_event_time_idx IS 'Serves the retention of events that are in no feed, as they concern nobody: oldest first.';

-- +goose Down
DROP INDEX CONCURRENTLY ops.events_unaddressed_event_time_idx;
DROP INDEX CONCURRENTLY ops.event_feed_position_idx;
