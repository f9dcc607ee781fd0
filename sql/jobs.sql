-- Jobs: the public resource and the queue in one row; last in the lock order.

-- name: ClaimJobs :many
-- Takes the oldest pending jobs for this transaction. A job waits as long as an older one of its service request is pending, so a
-- batch holds at most one job of a service request and they run in the order of acceptance. Jobs that made a transaction fail
-- (attempts > 0) are claimed apart from the others, when their pause is over.
-- Locks: the claimed jobs, FOR NO KEY UPDATE, in the order of sequence_number; rows that another worker holds are skipped, so
-- nobody waits here and the order legal entity, licence, service request, job cannot be turned round.
-- Index: jobs_not_ended_sequence_number_idx, jobs_pending_request_key.
-- Refusals: none.
SELECT j.id, j.action, j.service_request_id, j.client_id, j.user_id, j.body, j.attempts, j.trace_context
FROM ops.jobs j
WHERE j.ended_at IS NULL
    AND (j.attempts > 0) = @failed_before::boolean
    AND (j.not_before IS NULL OR j.not_before <= statement_timestamp())
    AND NOT EXISTS (
        SELECT FROM ops.jobs older
        WHERE older.service_request_id = j.service_request_id AND older.status = 'pending' AND older.sequence_number < j.sequence_number
        OFFSET 0)
ORDER BY j.sequence_number
LIMIT @batch_size
FOR NO KEY UPDATE OF j SKIP LOCKED;

-- name: CountJobAttempt :one
-- Writes down that a job made its transaction fail, in a transaction of its own. The pause before the next attempt doubles each
-- time; the last attempt ends the job. No row: the job has ended meanwhile. What it must not be is asked, as in EndJobs.
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
-- Ends claimed jobs: an empty refusal means processed. Fewer rows than asked: somebody else ended one, and the transaction must
-- not be committed. Asked is what a job must not be: asked for what is pending, the indexes of that, which statistics of a quiet hour take
-- for empty, would look as good as the key.
-- Locks: the jobs, FOR NO KEY UPDATE; held since ClaimJobs.
-- Index: jobs_pkey.
-- Refusals: any, into the job.
UPDATE ops.jobs j SET
    status = CASE WHEN ended.refusal = '' THEN 'processed' ELSE 'failed' END,
    refusal = nullif(ended.refusal, ''),
    ended_at = statement_timestamp()
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@refusals::text[]) AS refusal) AS ended
WHERE j.id = ended.id AND j.status NOT IN ('processed', 'failed');

-- name: EnqueueJobs :many
-- Accepts actions: adds a pending job each, unless an equal one is pending already. An action without a row in the result has met one:
-- FindPendingJobs answers it.
-- Locks: the new rows; waits for an equal request that is being added at the same time, in order of the digests.
-- Index: jobs_pending_request_key.
-- Refusals: none.
INSERT INTO ops.jobs (id, action, service_request_id, patient_id, client_id, user_id, body, request_digest, trace_context)
SELECT w.id, w.action, w.service_request_id, w.patient_id, w.client_id, w.user_id, w.body, w.request_digest, nullif(w.trace_context, '')
FROM (SELECT
    unnest(@ids::uuid[]) AS id,
    unnest(@actions::text[]) AS action,
    unnest(@service_request_ids::uuid[]) AS service_request_id,
    unnest(@patient_ids::uuid[]) AS patient_id,
    unnest(@client_ids::uuid[]) AS client_id,
    unnest(@user_ids::uuid[]) AS user_id,
    unnest(@bodies::jsonb[]) AS body,
    unnest(@request_digests::bytea[]) AS request_digest,
    unnest(@trace_contexts::text[]) AS trace_context
) AS w
ORDER BY w.service_request_id, w.request_digest
ON CONFLICT (service_request_id, request_digest) WHERE status = 'pending' DO NOTHING
RETURNING id, inserted_at;

-- name: FindPendingJobs :many
-- The pending jobs that are equal to actions which were not added for their sake. An action without a row: its equal has ended at this
-- moment, and it may be added now.
-- Locks: none.
-- Index: jobs_pending_request_key.
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
-- One job, for the client that made it.
-- Locks: none.
-- Index: jobs_pkey.
-- Refusals: none; no row means that there is none the caller may know of.
SELECT id, action, service_request_id, patient_id, status, refusal, inserted_at, ended_at
FROM ops.jobs
WHERE id = @id AND client_id = @client_id;

-- name: ListJobs :many
-- Jobs for the operator: those that are pending, latest first, then those that ended, by their end, latest first. Run by the owner.
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
-- How long a job takes from acceptance to end, in seconds: the mean of those that ended last, or the age of the oldest that is pending, if
-- that is more: while nothing ends, the mean knows nothing of it. Jobs that failed before are not the queue's fault. 0 if there are none.
-- Locks: none.
-- Index: jobs_ended_at_idx, its newest hundred entries; jobs_not_ended_sequence_number_idx, its oldest.
-- Refusals: none.
SELECT greatest(
    (SELECT avg(extract(epoch FROM latest.ended_at - latest.inserted_at))
     FROM (SELECT ended_at, inserted_at FROM ops.jobs WHERE ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT 100) AS latest),
    (SELECT extract(epoch FROM statement_timestamp() - j.inserted_at)
     FROM ops.jobs j WHERE j.ended_at IS NULL AND j.attempts = 0 ORDER BY j.sequence_number LIMIT 1),
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

-- name: PruneJobs :one
-- Removes a batch of the jobs that ended longer ago than their retention, from a moment on. Tells how many, and the moment to go on from.
-- What it runs: ops.prune_jobs.
-- Locks: the jobs, FOR UPDATE; those that another transaction holds are skipped. Pending ones are not looked at.
-- Index: jobs_ended_at_idx, jobs_pkey.
-- Refusals: none.
SELECT p.pruned::bigint AS pruned, p.last::timestamptz AS last
FROM ops.prune_jobs(make_interval(secs => @retention_seconds), @after, @batch_size) AS p;

-- name: RetryJob :one
-- Makes a new job of the order of one that failed with internal_error, for the operator: a job's end is for ever. Nothing is added to any
-- other job, or while an equal one is pending. No row: there is no such job. Run by the owner.
-- Locks: the new row; waits for an equal request that is being added at the same time.
-- Index: jobs_pkey, jobs_pending_request_key.
-- Refusals: none; status and refusal say why nothing was added.
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
