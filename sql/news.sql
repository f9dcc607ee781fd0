-- News: the ends of jobs and the events that requests of this process wait for.

-- name: FindNews :many
-- Which of the things that are waited for have happened: jobs that have ended, legal entities that have events behind a position. One
-- query for all subscribers of a process, for the time in which the process hears no notifications.
-- Locks: none.
-- Index: jobs_pkey, event_feed_pkey.
-- Refusals: none.
SELECT DISTINCT waited.id::uuid AS id
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@positions::bigint[]) AS position) AS waited
WHERE EXISTS (SELECT FROM ops.jobs j WHERE j.id = waited.id AND j.status <> 'pending')
    OR EXISTS (SELECT FROM ops.event_feed f WHERE f.legal_entity_id = waited.id AND f.position > waited.position);
