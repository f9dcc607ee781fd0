-- Positions of the feed follow the clock, so that a restored database does not give a position out again. Idempotency keys belong to a user
-- of a client.
-- Live: a trigger on ops.event_feed, and a column of ops.idempotency_records that can be null. Both lock the table for a moment and rewrite
-- nothing. The program of the release before publishes through the trigger too, and leaves user_key null.

-- +goose Up
SET LOCAL lock_timeout = '2s';

-- +goose StatementBegin
CREATE FUNCTION ops.advance_event_feed() RETURNS trigger
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = ''
AS $$
BEGIN
    PERFORM setval('ops.event_feed_position_seq',
        greatest(s.last_value, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint))
    FROM ops.event_feed_position_seq s;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION ops.advance_event_feed() IS 'Body of the trigger event_feed_follows_the_clock.';
REVOKE ALL ON FUNCTION ops.advance_event_feed() FROM PUBLIC;

CREATE TRIGGER event_feed_follows_the_clock
    BEFORE INSERT ON ops.event_feed
    FOR EACH STATEMENT
    EXECUTE FUNCTION ops.advance_event_feed();
COMMENT ON TRIGGER event_feed_follows_the_clock ON ops.event_feed IS
    'The next positions are at least the microseconds since 1970. A database that was restored to an earlier state gives no position a second time, so a cursor from after that state is recognised. One publisher at a time inserts.';
COMMENT ON COLUMN ops.event_feed.position IS
    'Place in the feed, and the cursor of its readers. Has gaps. At least the microseconds since 1970 when it was published (smaller if that was before schema version 16).';

ALTER TABLE ops.idempotency_records ADD COLUMN user_key text;
COMMENT ON COLUMN ops.idempotency_records.user_key IS
    'User id, a space, and the key as the user chose it: each user of a client has keys of their own. Null: written by the release before, for all users of the client.';
COMMENT ON COLUMN ops.idempotency_records.key IS
    'The key, as the user chose it, so that the release before finds it too; a stand-in that no caller can send, if another user of the client has the same key.';
GRANT UPDATE (user_key) ON ops.idempotency_records TO reiestr_app;

COMMENT ON INDEX ops.jobs_ended_at_idx IS
    'Serves the measurement of how long the newest ended jobs took, the list of ended jobs for the operator, and their removal after the retention.';

-- +goose Down
SET LOCAL lock_timeout = '2s';
COMMENT ON INDEX ops.jobs_ended_at_idx IS 'Serves the measurement of how long the latest jobs took.';
REVOKE UPDATE (user_key) ON ops.idempotency_records FROM reiestr_app;
ALTER TABLE ops.idempotency_records DROP COLUMN user_key;
COMMENT ON COLUMN ops.idempotency_records.key IS 'The key, as the client chose it.';
DROP TRIGGER event_feed_follows_the_clock ON ops.event_feed;
DROP FUNCTION ops.advance_event_feed();
COMMENT ON COLUMN ops.event_feed.position IS 'Place in the feed, and the cursor of its readers. Has gaps.';
