-- News for requests that wait: ends of jobs, and new events.

-- name: FindNews :many
-- Which of the awaited things have happened: jobs that have ended, and legal entities that have events behind a position. One query serves all
-- subscribers of a process while the process receives no notifications.
-- Locks: none.
-- Index: jobs_pkey, event_feed_pkey.
-- Refusals: none.
SELECT DISTINCT waited.id::uuid AS id
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@positions::bigint[]) AS position) AS waited
WHERE EXISTS (SELECT FROM ops.jobs j WHERE j.id = waited.id AND j.status <> 'pending')
    OR EXISTS (SELECT FROM ops.event_feed f WHERE f.legal_entity_id = waited.id AND f.position > waited.position);
