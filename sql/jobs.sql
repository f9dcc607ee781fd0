-- Jobs: one row is both the public resource and the entry of the queue. Last in the lock order.

-- name: ClaimJobs :many
-- Takes the oldest pending jobs for this transaction, with their service requests. A job waits while an older job of its service request is pending,
-- so a batch holds at most one job of a service request, and the jobs of a service request run in the order of their acceptance. A job also waits
-- while another transaction holds its service request. A job whose service request does not exist is taken: the ladder refuses it. Jobs of an action
-- that the program does not know are left to a program that knows it. Jobs with not_before could not be carried out before: ClaimRepeatedJobs takes
-- them. The rows are taken one by one, in order, until there are batch_size of them, or walk_size jobs were looked at. No sort stands above the
-- locks: it would lock all rows before the first one is answered.
-- Locks: each job and then its service request, FOR NO KEY UPDATE, in the order of sequence_number. Rows that are held are skipped: the
-- claim never waits, so the order of the rows does not matter.
-- Index: jobs_not_ended_sequence_number_idx, jobs_pending_service_request_id_sequence_number_idx, service_requests_pkey.
-- Refusals: none.
SELECT j.id, j.action, j.service_request_id, j.client_id, j.user_id, j.body, j.trace_context
FROM (
    SELECT c.id, c.action, c.service_request_id, c.client_id, c.user_id, c.body, c.trace_context
    FROM ops.jobs c
    WHERE c.ended_at IS NULL
        AND c.not_before IS NULL
        AND c.action = ANY (@actions::text[])
        AND NOT EXISTS (
            SELECT FROM ops.jobs older
            WHERE older.service_request_id = c.service_request_id AND older.status = 'pending' AND older.sequence_number < c.sequence_number
            OFFSET 0)
    ORDER BY c.sequence_number
    LIMIT @walk_size
    FOR NO KEY UPDATE SKIP LOCKED
) AS j
LEFT JOIN LATERAL (
    SELECT s.id FROM medical_events.service_requests s WHERE s.id = j.service_request_id FOR NO KEY UPDATE SKIP LOCKED
) AS locked ON true
WHERE locked.id IS NOT NULL
    OR NOT EXISTS (SELECT FROM medical_events.service_requests s WHERE s.id = j.service_request_id OFFSET 0)
LIMIT @batch_size;

-- name: ClaimRepeatedJobs :many
-- Takes jobs that could not be carried out before and whose pause is over, the earliest due first. Otherwise it is as ClaimJobs. The condition on the
-- status is that of its index, and of no other index.
-- Locks: each job and then its service request, FOR NO KEY UPDATE, in the order of not_before. Rows that are held are skipped.
-- Index: jobs_repeated_not_before_idx, jobs_pending_service_request_id_sequence_number_idx, service_requests_pkey.
-- Refusals: none.
SELECT j.id, j.action, j.service_request_id, j.client_id, j.user_id, j.body, j.trace_context
FROM (
    SELECT c.id, c.action, c.service_request_id, c.client_id, c.user_id, c.body, c.trace_context
    FROM ops.jobs c
    WHERE c.status NOT IN ('processed', 'failed')
        AND c.not_before <= statement_timestamp()
        AND c.action = ANY (@actions::text[])
        AND NOT EXISTS (
            SELECT FROM ops.jobs older
            WHERE older.service_request_id = c.service_request_id AND older.status = 'pending' AND older.sequence_number < c.sequence_number
            OFFSET 0)
    ORDER BY c.not_before
    LIMIT @walk_size
    FOR NO KEY UPDATE SKIP LOCKED
) AS j
LEFT JOIN LATERAL (
    SELECT s.id FROM medical_events.service_requests s WHERE s.id = j.service_request_id FOR NO KEY UPDATE SKIP LOCKED
) AS locked ON true
WHERE locked.id IS NOT NULL
    OR NOT EXISTS (SELECT FROM medical_events.service_requests s WHERE s.id = j.service_request_id OFFSET 0)
LIMIT @batch_size;

-- name: CountJobAttempt :one
-- Records that a job made its transaction fail, in a transaction of its own. The pause before the next attempt doubles each time, and the last
-- attempt ends the job. No row: the job has ended meanwhile. The status is compared as in EndJobs.
-- Locks: the job's row, FOR NO KEY UPDATE.
-- Index: jobs_pkey.
-- Refusals: internal_error, into the job.
UPDATE ops.jobs SET
    attempts = attempts + 1,
    not_before = statement_timestamp() + power(2, attempts) * make_interval(secs => @pause_seconds),
    status = CASE WHEN attempts + 1 >= @most_attempts::int THEN 'failed' ELSE status END,
    refusal = CASE WHEN attempts + 1 >= @most_attempts::int THEN 'internal_error' ELSE refusal END,
    ended_at = CASE WHEN attempts + 1 >= @most_attempts::int THEN statement_timestamp() ELSE ended_at END
WHERE id = @id AND status NOT IN ('processed', 'failed')
RETURNING attempts, status;

-- name: EndJobs :execrows
-- Ends claimed jobs: an empty refusal means processed. If fewer rows are updated than asked for, another transaction has ended a job, and this
-- transaction must not be committed. The condition names the final states and not pending: with status = 'pending', statistics that were taken while
-- no job was pending would make the partial indexes of pending jobs look empty, and so as cheap as the primary key.
-- Locks: the jobs, FOR NO KEY UPDATE; held since ClaimJobs or ClaimRepeatedJobs.
-- Index: jobs_pkey.
-- Refusals: any, into the job.
UPDATE ops.jobs j SET
    status = CASE WHEN ended.refusal = '' THEN 'processed' ELSE 'failed' END,
    refusal = nullif(ended.refusal, ''),
    ended_at = statement_timestamp()
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@refusals::text[]) AS refusal) AS ended
WHERE j.id = ended.id AND j.status NOT IN ('processed', 'failed');

-- name: EnqueueJobs :many
-- Accepts actions: adds a pending job for each, unless an equal one is pending already or the client has too many pending jobs on the service
-- request. The result has a row for each action. With inserted_at: the job was added. With is_over: there would be too many jobs, those in front of
-- it in this statement (places) included. With neither: FindPendingJobs answers the equal job. begins_at is now, or the time at which a job of the
-- service request is repeated for which the new one has to wait. Transactions that add jobs at the same time do not see each other's jobs, so
-- together they may exceed the bound by the number of jobs that they add.
-- Locks: the new rows; waits for an equal request that is being added at the same time, in order of the digests.
-- Index: jobs_pending_request_key, jobs_pending_service_request_id_sequence_number_idx.
-- Refusals: none.
WITH counted AS (
    SELECT w.*, pending.begins_at, NOT pending.has_equal AND pending.of_client + w.place > @most_pending::int AS is_over
    FROM (SELECT
        unnest(@ids::uuid[]) AS id,
        unnest(@actions::text[]) AS action,
        unnest(@service_request_ids::uuid[]) AS service_request_id,
        unnest(@patient_ids::uuid[]) AS patient_id,
        unnest(@client_ids::uuid[]) AS client_id,
        unnest(@user_ids::uuid[]) AS user_id,
        unnest(@bodies::jsonb[]) AS body,
        unnest(@request_digests::bytea[]) AS request_digest,
        unnest(@places::int[]) AS place,
        unnest(@trace_contexts::text[]) AS trace_context
    ) AS w
    CROSS JOIN LATERAL (
        SELECT
            count(*) FILTER (WHERE j.client_id = w.client_id) AS of_client,
            coalesce(bool_or(j.request_digest = w.request_digest), false) AS has_equal,
            coalesce(max(j.not_before), statement_timestamp()) AS begins_at
        FROM ops.jobs j
        WHERE j.service_request_id = w.service_request_id AND j.status = 'pending'
    ) AS pending
), added AS (
    INSERT INTO ops.jobs (id, action, service_request_id, patient_id, client_id, user_id, body, request_digest, trace_context)
    SELECT c.id, c.action, c.service_request_id, c.patient_id, c.client_id, c.user_id, c.body, c.request_digest, nullif(c.trace_context, '')
    FROM counted c
    WHERE NOT c.is_over
    ORDER BY c.service_request_id, c.request_digest
    ON CONFLICT (service_request_id, request_digest) WHERE status = 'pending' DO NOTHING
    RETURNING id, inserted_at
)
SELECT counted.id::uuid AS id, counted.is_over::boolean AS is_over, counted.begins_at::timestamptz AS begins_at, added.inserted_at
FROM counted LEFT JOIN added ON added.id = counted.id;

-- name: FindPendingJobs :many
-- The pending jobs that are equal to actions for which no job was added. An action without a row: its equal job has ended between the two statements,
-- so its own may be added now.
-- Locks: none.
-- Index: jobs_pending_service_request_id_sequence_number_idx.
-- Refusals: none.
SELECT w.id::uuid AS asked_id, pending.id, pending.inserted_at
FROM (SELECT
    unnest(@ids::uuid[]) AS id,
    unnest(@service_request_ids::uuid[]) AS service_request_id,
    unnest(@request_digests::bytea[]) AS request_digest
) AS w
CROSS JOIN LATERAL (
    SELECT j.id, j.inserted_at
    FROM ops.jobs j
    WHERE j.service_request_id = w.service_request_id AND j.request_digest = w.request_digest AND j.status = 'pending'
    OFFSET 0
) AS pending;

-- name: GetJob :one
-- One job, for the client that made it. begins_at is the earliest known moment at which it can be carried out: the job waits for the oldest pending
-- job of its service request (or is this job), which may have to be repeated at a certain time.
-- Locks: none.
-- Index: jobs_pkey, jobs_pending_service_request_id_sequence_number_idx.
-- Refusals: none; no row means that the client has no such job.
SELECT j.id, j.action, j.service_request_id, j.patient_id, j.status, j.refusal, j.inserted_at, j.ended_at,
    coalesce(CASE WHEN j.ended_at IS NULL THEN (
        SELECT oldest.not_before
        FROM ops.jobs oldest
        WHERE oldest.service_request_id = j.service_request_id AND oldest.status = 'pending'
        ORDER BY oldest.sequence_number
        LIMIT 1) END, j.inserted_at)::timestamptz AS begins_at
FROM ops.jobs j
WHERE j.id = @id AND j.client_id = @client_id;

-- name: ListJobs :many
-- Jobs for the operator: first pending jobs, the latest first, then ended jobs by their end, the latest first. Run by the owner.
-- Locks: none.
-- Index: jobs_not_ended_sequence_number_idx, jobs_ended_at_idx.
-- Refusals: none.
WITH pending AS (
    SELECT * FROM ops.jobs WHERE ended_at IS NULL AND @status::text IN ('', 'pending') ORDER BY sequence_number DESC LIMIT @size_limit
), ended AS (
    SELECT * FROM ops.jobs WHERE ended_at IS NOT NULL AND @status::text IN ('', status) ORDER BY ended_at DESC LIMIT @size_limit
)
SELECT j.id, j.action, j.service_request_id, j.client_id, j.user_id, j.status, j.refusal, j.attempts, j.inserted_at, j.ended_at
FROM (SELECT * FROM pending UNION ALL SELECT * FROM ended) AS j
ORDER BY j.ended_at DESC NULLS FIRST, j.sequence_number DESC
LIMIT @size_limit;

-- name: MeasureJobs :one
-- How long a job takes from its acceptance to its end, in seconds: the mean of the hundred jobs that ended last, or the age of the oldest pending job
-- that was accepted after all of these, if it is larger, because the mean does not grow while no job ends. A pending job that is older than those has
-- been overtaken, so it waits for a reason of its own and does not count. 0 if there are no jobs.
-- Locks: none.
-- Index: jobs_ended_at_idx, its newest hundred entries; jobs_not_ended_sequence_number_idx, one.
-- Refusals: none.
WITH latest AS MATERIALIZED (
    SELECT ended_at, inserted_at, sequence_number FROM ops.jobs WHERE ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT 100
)
SELECT greatest(
    (SELECT avg(extract(epoch FROM latest.ended_at - latest.inserted_at)) FROM latest),
    (SELECT extract(epoch FROM statement_timestamp() - j.inserted_at)
     FROM ops.jobs j
     WHERE j.ended_at IS NULL AND j.not_before IS NULL AND j.sequence_number > coalesce((SELECT max(latest.sequence_number) FROM latest), 0)
     ORDER BY j.sequence_number
     LIMIT 1),
    0)::float8 AS seconds;

-- name: MeasureQueue :one
-- How many jobs are pending, counted to a hundred thousand, and how long the oldest has waited, in seconds; 0 if there is none.
-- Locks: none.
-- Index: jobs_not_ended_sequence_number_idx: at most a hundred thousand entries, and its first.
-- Refusals: none.
SELECT
    (SELECT count(*) FROM (SELECT FROM ops.jobs WHERE ended_at IS NULL LIMIT 100000) AS pending)::bigint AS pending,
    coalesce(extract(epoch FROM statement_timestamp() - (
        SELECT inserted_at FROM ops.jobs WHERE ended_at IS NULL ORDER BY sequence_number LIMIT 1)), 0)::float8 AS oldest_seconds;

-- name: PostponeJob :execrows
-- Puts a job aside that could not be carried out for a reason outside of the job: no attempt is counted. Its pause is as long as the time since its
-- acceptance, so that the pauses double, between the least and the most seconds. No row: the job has ended meanwhile.
-- Locks: the job's row, FOR NO KEY UPDATE.
-- Index: jobs_pkey.
-- Refusals: none.
UPDATE ops.jobs SET
    not_before = statement_timestamp() + least(
        greatest(statement_timestamp() - inserted_at, make_interval(secs => @least_seconds)), make_interval(secs => @most_seconds))
WHERE id = @id AND status NOT IN ('processed', 'failed');

-- name: PruneJobs :one
-- Removes a batch of the jobs that ended longer ago than their retention, from a moment on. Answers their number, and the moment from which the next
-- batch starts. The work is done by ops.prune_jobs.
-- Locks: the jobs, FOR UPDATE; those that another transaction holds are skipped. Pending jobs are not read.
-- Index: jobs_ended_at_idx, jobs_pkey.
-- Refusals: none.
SELECT p.pruned::bigint AS pruned, p.last::timestamptz AS last
FROM ops.prune_jobs(make_interval(secs => @retention_seconds), @after, @batch_size) AS p;

-- name: RetryJob :one
-- Makes a new job with the order of a job that failed with internal_error, for the operator: an ended job never changes. No job is added for any
-- other job, or while an equal one is pending. No row: there is no such job. Run by the owner.
-- Locks: the new row; waits for an equal request that is being added at the same time.
-- Index: jobs_pkey, jobs_pending_request_key.
-- Refusals: none; status and refusal tell why no job was added.
WITH failed AS (
    SELECT * FROM ops.jobs j WHERE j.id = @id
), added AS (
    INSERT INTO ops.jobs (id, action, service_request_id, patient_id, client_id, user_id, body, request_digest)
    SELECT gen_random_uuid(), f.action, f.service_request_id, f.patient_id, f.client_id, f.user_id, f.body, f.request_digest
    FROM failed f
    WHERE f.status = 'failed' AND f.refusal = 'internal_error'
    ON CONFLICT (service_request_id, request_digest) WHERE status = 'pending' DO NOTHING
    RETURNING id
)
SELECT failed.status, failed.refusal, added.id AS retry_id
FROM failed LEFT JOIN added ON true;

-- name: ShowJob :one
-- One job, for the operator. Run by the owner.
-- Locks: none.
-- Index: jobs_pkey.
-- Refusals: none; no row means that there is none.
SELECT id, action, service_request_id, client_id, user_id, status, refusal, attempts, inserted_at, ended_at
FROM ops.jobs
WHERE id = @id;
