-- The moment of an event stands beside its place in the feed, so that a legal entity's events can be read by time.
-- Live: a column without default, so no row is rewritten; ops.event_feed is locked (ACCESS EXCLUSIVE) for a change of the catalogue only. The
-- program of the release before leaves the column null, as do the rows that are there: reading by time looks into their events.

-- +goose Up
SET LOCAL lock_timeout = '2s';

ALTER TABLE ops.event_feed ADD COLUMN event_time timestamptz;
COMMENT ON COLUMN ops.event_feed.event_time IS
    'Moment of the event. Null: published by a program of before schema version 21; then the event itself tells.';
GRANT SELECT (event_time) ON ops.event_feed TO reiestr_readonly;

-- +goose Down
SET LOCAL lock_timeout = '2s';
ALTER TABLE ops.event_feed DROP COLUMN event_time;
