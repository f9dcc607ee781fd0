-- Idempotency keys: a request that is repeated with its key is carried out once.

-- name: ClaimIdempotencyKey :many
-- Takes a key for a request: a new one, one that is older than a day, or one whose holder died with the same request. Answers the key as it
-- is now (code 0: without an answer): with the lease asked for, this request is to be carried out; with another one, somebody else's holds. No row: the key was taken
-- or freed at this moment, ask again.
-- Locks: the row, FOR NO KEY UPDATE; waits for an equal key that is being claimed at the same time.
-- Index: idempotency_records_pkey.
-- Refusals: none; what a key of another lease means follows from its digest and its answer.
WITH claimed AS (
    INSERT INTO ops.idempotency_records AS r (client_id, key, request_digest, lease_id, locked_until)
    VALUES (@client_id, @key, @request_digest, @lease_id, statement_timestamp() + make_interval(secs => @lease_seconds))
    ON CONFLICT (client_id, key) DO UPDATE SET
        request_digest = excluded.request_digest,
        lease_id = excluded.lease_id,
        locked_until = excluded.locked_until,
        inserted_at = excluded.inserted_at,
        code = NULL,
        header = NULL,
        body = NULL
    WHERE r.locked_until <= statement_timestamp() AND (
        r.inserted_at <= statement_timestamp() - make_interval(secs => @kept_seconds)
        OR r.code IS NULL AND r.request_digest = excluded.request_digest)
    RETURNING r.request_digest, r.lease_id
)
SELECT claimed.request_digest, claimed.lease_id, 0::smallint AS code, NULL::jsonb AS header, NULL::bytea AS body
FROM claimed
UNION ALL
SELECT r.request_digest, r.lease_id, coalesce(r.code, 0)::smallint, r.header, r.body
FROM ops.idempotency_records r
WHERE r.client_id = @client_id AND r.key = @key AND NOT EXISTS (SELECT FROM claimed);

-- name: ForgetIdempotencyKeys :execrows
-- Removes a batch of keys that are older than a day, oldest first. They are found again by their place, which the lock keeps: a join would
-- read the whole table as soon as the batch is a tenth of it.
-- Locks: the rows; those that somebody claims at this moment are skipped.
-- Index: idempotency_records_inserted_at_idx.
-- Refusals: none.
DELETE FROM ops.idempotency_records
WHERE ctid = ANY (ARRAY(
    SELECT old.ctid
    FROM ops.idempotency_records old
    WHERE old.inserted_at <= statement_timestamp() - make_interval(secs => @kept_seconds) AND old.locked_until <= statement_timestamp()
    ORDER BY old.inserted_at
    LIMIT @batch_size
    FOR UPDATE SKIP LOCKED
));

-- name: FreeIdempotencyKey :exec
-- Gives a key back whose request came to no decision. A lease that somebody has taken over changes nothing.
-- Locks: the row.
-- Index: idempotency_records_pkey.
-- Refusals: none.
DELETE FROM ops.idempotency_records WHERE client_id = @client_id AND key = @key AND lease_id = @lease_id AND code IS NULL;

-- name: KeepIdempotentAnswer :execrows
-- Writes down the answer that a request was given. No row changed: the lease has ended and somebody else has it.
-- Locks: the row, FOR NO KEY UPDATE.
-- Index: idempotency_records_pkey.
-- Refusals: none.
UPDATE ops.idempotency_records SET code = @code::smallint, header = @header::jsonb, body = @body::bytea
WHERE client_id = @client_id AND key = @key AND lease_id = @lease_id AND code IS NULL;
