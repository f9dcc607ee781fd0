-- Jobs that have ended and events are kept for a time (docs/decisions/0018-retention.md).
-- Live: storage parameters of ops.events and ops.event_feed, which lock them against other schema changes only; the rest creates.
--
-- The service may call the two functions and has no right to delete: what is pending, in no feed yet or younger than a day is safe from it,
-- whatever it asks for. Both run with the owner's rights, and with plans made for the values given.

-- +goose Up
SET LOCAL lock_timeout = '2s';

CREATE TABLE ops.event_horizons (
    legal_entity_id uuid   NOT NULL CONSTRAINT event_horizons_pkey PRIMARY KEY,
    position        bigint NOT NULL
);
COMMENT ON TABLE ops.event_horizons IS
    'Up to where the feeds have been removed, so that a reader who comes too late is told of it. No row: nothing has been removed.';
COMMENT ON COLUMN ops.event_horizons.legal_entity_id IS 'Whose feed.';
COMMENT ON COLUMN ops.event_horizons.position IS 'The last place that has been removed: who has read less has missed an event.';
COMMENT ON CONSTRAINT event_horizons_pkey ON ops.event_horizons IS 'Serves every reading of a feed.';

-- A night removes about a ninetieth of them: vacuum follows it, and not when a fifth of the table is dead. Pages stay filled, as no row is
-- ever updated; what is added takes the room of what was removed, so that the tables stop growing at the age of the retention.
ALTER TABLE ops.events SET (autovacuum_vacuum_scale_factor = 0.01);
ALTER TABLE ops.event_feed SET (autovacuum_vacuum_scale_factor = 0.01);

-- +goose StatementBegin
CREATE FUNCTION ops.prune_jobs(retention interval, after timestamptz, batch_size integer, OUT pruned bigint, OUT last timestamptz)
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = ''
    SET plan_cache_mode = force_custom_plan
AS $$
BEGIN
    WITH removed AS (
        DELETE FROM ops.jobs
        WHERE id = ANY (ARRAY(
            SELECT j.id
            FROM ops.jobs j
            WHERE j.ended_at IS NOT NULL AND j.ended_at >= after
                AND j.ended_at <= statement_timestamp() - greatest(retention, interval '24 hours')
            ORDER BY j.ended_at
            LIMIT batch_size
            FOR UPDATE SKIP LOCKED))
        RETURNING ended_at
    )
    SELECT count(*), coalesce(max(removed.ended_at), after) INTO pruned, last FROM removed;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION ops.prune_jobs(interval, timestamptz, integer) IS
    'Removes a batch of the jobs that ended longer ago than retention (a day at least), oldest first, from a moment on, which steps over what the batches before have left dead in the index. Tells how many, and the moment to go on from.';

-- +goose StatementBegin
CREATE FUNCTION ops.prune_events(retention interval, after bigint, batch_size integer, OUT pruned bigint, OUT last bigint)
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = ''
    SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    latest constant timestamptz := statement_timestamp() - greatest(retention, interval '24 hours');
    unaddressed bigint;
BEGIN
    -- An event goes with all its places. They are neighbours; of one that the batch has not whole the next takes all.
    WITH front AS (
        SELECT f.legal_entity_id, f.position, f.event_id
        FROM ops.event_feed f
        WHERE f.position > after
        ORDER BY f.position
        LIMIT batch_size
    ), old AS (
        SELECT e.id
        FROM (SELECT front.event_id, count(*) AS places FROM front GROUP BY front.event_id) AS found
        JOIN ops.events e ON e.id = found.event_id
        WHERE e.event_time <= latest
            AND found.places = (SELECT count(DISTINCT concerned.id) FROM unnest(e.legal_entity_ids) AS concerned (id))
        FOR UPDATE OF e SKIP LOCKED
    ), unfed AS (
        DELETE FROM ops.event_feed f
        USING front JOIN old ON old.id = front.event_id
        WHERE f.legal_entity_id = front.legal_entity_id AND f.position = front.position
        RETURNING f.legal_entity_id, f.position
    ), horizons AS (
        INSERT INTO ops.event_horizons AS h (legal_entity_id, position)
        SELECT unfed.legal_entity_id, max(unfed.position) FROM unfed GROUP BY unfed.legal_entity_id ORDER BY unfed.legal_entity_id
        ON CONFLICT (legal_entity_id) DO UPDATE SET position = greatest(h.position, excluded.position)
    ), removed AS (
        DELETE FROM ops.events e USING old WHERE e.id = old.id RETURNING e.id
    )
    SELECT (SELECT count(*) FROM removed), coalesce((SELECT max(unfed.position) FROM unfed), after) INTO pruned, last;

    DELETE FROM ops.events
    WHERE id = ANY (ARRAY(
        SELECT e.id
        FROM ops.events e
        WHERE array_remove(e.legal_entity_ids, NULL) = '{}' AND e.event_time <= latest
        ORDER BY e.event_time
        LIMIT batch_size
        FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS unaddressed = ROW_COUNT;
    pruned := pruned + unaddressed;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION ops.prune_events(interval, bigint, integer) IS
    'Removes a batch of the events that are older than retention (a day at least) and in the feed behind a position, with their places, and moves the horizons; and a batch of those that concern nobody. Tells how many, and the position to go on from.';

REVOKE ALL ON FUNCTION ops.prune_jobs(interval, timestamptz, integer), ops.prune_events(interval, bigint, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ops.prune_jobs(interval, timestamptz, integer), ops.prune_events(interval, bigint, integer) TO reiestr_app;
GRANT SELECT ON ops.event_horizons TO reiestr_app;

-- +goose Down
SET LOCAL lock_timeout = '2s';
DROP FUNCTION ops.prune_events(interval, bigint, integer);
DROP FUNCTION ops.prune_jobs(interval, timestamptz, integer);
ALTER TABLE ops.event_feed RESET (autovacuum_vacuum_scale_factor);
ALTER TABLE ops.events RESET (autovacuum_vacuum_scale_factor);
DROP TABLE ops.event_horizons;
