-- Events: written by the effects with the change itself, put into the feed by one publisher at a time, read by position. Why a consumer
-- misses nothing: docs/decisions/0011-waiting-repeating-following.md.

-- name: GetEvent :one
-- An event that concerns a legal entity.
-- Locks: none.
-- Index: events_pkey.
-- Refusals: none.
SELECT e.id, e.event_type, e.entity_type, e.entity_id, e.properties, e.changed_by, e.event_time
FROM ops.events e
WHERE e.id = @id AND e.legal_entity_ids @> ARRAY[@legal_entity_id::uuid];

-- name: GetEventHorizon :one
-- Up to which position the feed of a legal entity has been removed; 0: it is whole. Sent after ListEvents if that finds nothing: an event
-- that has not been removed by then would have been found.
-- Locks: none.
-- Index: event_horizons_pkey.
-- Refusals: none.
SELECT coalesce((SELECT h.position FROM ops.event_horizons h WHERE h.legal_entity_id = @legal_entity_id), 0)::bigint AS position;

-- name: HasUnpublishedEvents :one
-- Whether there is anything to publish, so that the publisher's lock is taken only where there is. The least number is asked for by index:
-- EXISTS would read the table from its beginning, and all that was published but not vacuumed away yet.
-- Locks: none.
-- Index: unpublished_events_pkey.
-- Refusals: none.
SELECT ((SELECT min(u.sequence_number) FROM ops.unpublished_events u) IS NOT NULL)::boolean AS has_unpublished;

-- name: ListEvents :many
-- The events of a legal entity's feed from a position on. The first row shows whether the feed has a place at the position. Each row has the
-- horizon, up to which the feed has been removed, of the same snapshot. A negative position stands for the horizon.
-- Locks: none.
-- Index: event_horizons_pkey, event_feed_pkey, events_pkey.
-- Refusals: none.
SELECT f.position, e.id, e.event_type, e.entity_type, e.entity_id, e.properties, e.changed_by, e.event_time, horizon.position AS horizon
FROM (
    SELECT coalesce((SELECT h.position FROM ops.event_horizons h WHERE h.legal_entity_id = @legal_entity_id), 0)::bigint AS position
) AS horizon
JOIN ops.event_feed f ON f.legal_entity_id = @legal_entity_id AND f.position >= CASE WHEN @from_position::bigint < 0 THEN horizon.position ELSE @from_position END
JOIN ops.events e ON e.id = f.event_id
ORDER BY f.position
LIMIT @page_size;

-- name: ListEventsByTime :many
-- A page of the events of a legal entity's feed in a window of time, oldest first; those of a moment in the order of the feed. Each row has the
-- number of events on all pages. Both ends are in the window; an end that is null: the beginning is three hours ago, the end is open. A filter
-- that is null selects all. Places that tell no moment are those of before schema version 21: their events are looked up.
-- Locks: none.
-- Index: event_feed_event_time_idx, event_feed_undated_idx, events_pkey.
-- Refusals: none.
SELECT e.id, e.event_type, e.entity_type, e.entity_id, e.properties, e.changed_by, e.event_time, count(*) OVER () AS total_entries
FROM (
    SELECT coalesce(sqlc.narg('date')::timestamptz, ops.instant(sqlc.narg('as_of')) - interval '3 hours') AS beginning,
        coalesce(sqlc.narg('date_to')::timestamptz, 'infinity') AS ending
) AS in_time
CROSS JOIN LATERAL (
    SELECT f.event_id, f.position
    FROM ops.event_feed f
    WHERE f.legal_entity_id = @legal_entity_id AND f.event_time BETWEEN in_time.beginning AND in_time.ending
    UNION ALL
    SELECT f.event_id, f.position
    FROM ops.event_feed f
    WHERE f.legal_entity_id = @legal_entity_id AND f.event_time IS NULL
) AS place
JOIN ops.events e ON e.id = place.event_id AND e.event_time BETWEEN in_time.beginning AND in_time.ending
WHERE (sqlc.narg('event_type')::text IS NULL OR e.event_type = sqlc.narg('event_type'))
    AND (sqlc.narg('entity_type')::text IS NULL OR e.entity_type = sqlc.narg('entity_type'))
    AND (sqlc.narg('attribute_name')::text IS NULL OR e.properties ? sqlc.narg('attribute_name'))
    AND (sqlc.narg('new_value')::text IS NULL OR e.properties -> sqlc.narg('attribute_name') ->> 'new_value' = sqlc.narg('new_value'))
ORDER BY e.event_time, place.position
LIMIT @page_size::bigint OFFSET @page_offset::bigint;

-- name: LockPublication :exec
-- Makes this transaction the one publisher. PublishEvents follows in a statement of its own, whose snapshot sees all that the publisher
-- before has published.
-- Locks: the advisory lock of publication, to the end of the transaction. No other transaction waits for a lock that is taken behind it.
-- Index: none.
-- Refusals: none.
SELECT pg_advisory_xact_lock(7236108426);

-- name: PruneEvents :one
-- Removes a batch of the events that are older than their retention, those in the feed behind a position, and moves the horizons of the
-- feeds. Tells how many, 0 at the end, and the position to go on from. What it runs: ops.prune_events.
-- Locks: the events, FOR UPDATE; those that another transaction holds are skipped, with all of their places. Then their places, and the
-- horizons in the order of the legal entities, where it may wait for another transaction that prunes. No other
-- kind of transaction locks places or horizons.
-- Index: event_feed_position_idx, events_pkey, event_horizons_pkey, events_unaddressed_event_time_idx.
-- Refusals: none.
SELECT p.pruned::bigint AS pruned, p.last::bigint AS last
FROM ops.prune_events(make_interval(secs => @retention_seconds), @after, @batch_size) AS p;

-- name: PublishEvents :one
-- Gives the oldest committed events that are not in the feed yet their places at its end, in the order of their sequence numbers, one for
-- each legal entity they concern. Tells how many events it took and whom they concern. Runs after LockPublication.
-- Locks: the rows that it takes away, which no other transaction touches; the new rows.
-- Index: unpublished_events_pkey, events_pkey.
-- Refusals: none.
WITH taken AS (
    DELETE FROM ops.unpublished_events
    WHERE sequence_number = ANY (ARRAY(SELECT u.sequence_number FROM ops.unpublished_events u ORDER BY u.sequence_number LIMIT @batch_size))
    RETURNING sequence_number, event_id
), fed AS (
    INSERT INTO ops.event_feed (legal_entity_id, event_id, event_time)
    SELECT concerned.legal_entity_id, taken.event_id, e.event_time
    FROM taken
    JOIN ops.events e ON e.id = taken.event_id
    CROSS JOIN LATERAL (SELECT DISTINCT unnest(e.legal_entity_ids) AS legal_entity_id) AS concerned
    WHERE concerned.legal_entity_id IS NOT NULL
    ORDER BY taken.sequence_number
    RETURNING legal_entity_id
)
SELECT
    (SELECT count(*) FROM taken)::int AS events,
    ARRAY(SELECT DISTINCT fed.legal_entity_id FROM fed)::uuid[] AS legal_entity_ids;
