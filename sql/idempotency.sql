-- Idempotency keys: a request that is repeated with its key is carried out once.

-- name: ClaimIdempotencyKey :many
-- Takes a key of a user for a request: a new key, one that is older than a day, or one whose process died with the same request. Answers the
-- row as it is now (code 0: without an answer). With the lease asked for, this request is to be carried out; with another lease, it is not.
-- No row: another request took, answered or freed the key at this moment, ask again.
-- A row that the release before wrote belongs to all users of the client: it counts for the same request, and after a day for any.
-- stand_in_key is stored as key if another user of the client has the key: (client_id, key) is unique for the release before.
-- Locks: the row, FOR NO KEY UPDATE; waits for an equal key that is being claimed at the same time.
-- Index: idempotency_records_user_key, idempotency_records_pkey.
-- Refusals: none; what a key of another lease means follows from its digest and its answer.
WITH held AS (
    SELECT h.*
    FROM (
        SELECT own.* FROM ops.idempotency_records own WHERE own.client_id = @client_id AND own.user_key = @user_key::text
        UNION ALL
        SELECT before.*
        FROM ops.idempotency_records before
        WHERE before.client_id = @client_id AND before.key = @key AND before.user_key IS NULL AND (
            before.request_digest = @request_digest
            OR before.inserted_at <= statement_timestamp() - make_interval(secs => @kept_seconds))
    ) AS h
    ORDER BY h.user_key NULLS LAST
    LIMIT 1
), found AS (
    SELECT held.*, held.locked_until <= statement_timestamp() AND (
        held.inserted_at <= statement_timestamp() - make_interval(secs => @kept_seconds)
        OR held.code IS NULL AND held.request_digest = @request_digest) AS renewable
    FROM held
), renewed AS (
    UPDATE ops.idempotency_records r SET
        user_key = @user_key::text,
        request_digest = @request_digest,
        lease_id = @lease_id,
        locked_until = statement_timestamp() + make_interval(secs => @lease_seconds),
        inserted_at = statement_timestamp(),
        code = NULL,
        header = NULL,
        body = NULL
    FROM found
    WHERE found.renewable AND r.client_id = @client_id AND r.key = found.key
        AND r.lease_id = found.lease_id AND r.code IS NOT DISTINCT FROM found.code
    RETURNING r.request_digest, r.lease_id
), added AS (
    INSERT INTO ops.idempotency_records AS r (client_id, key, user_key, request_digest, lease_id, locked_until)
    SELECT
        @client_id,
        CASE
            WHEN EXISTS (SELECT FROM ops.idempotency_records o WHERE o.client_id = @client_id AND o.key = @key) THEN @stand_in_key::text
            ELSE @key
        END,
        @user_key::text, @request_digest, @lease_id, statement_timestamp() + make_interval(secs => @lease_seconds)
    WHERE NOT EXISTS (SELECT FROM found)
    ON CONFLICT DO NOTHING
    RETURNING r.request_digest, r.lease_id
), claimed AS (
    SELECT renewed.request_digest, renewed.lease_id FROM renewed
    UNION ALL
    SELECT added.request_digest, added.lease_id FROM added
)
SELECT claimed.request_digest, claimed.lease_id, 0::smallint AS code, NULL::jsonb AS header, NULL::bytea AS body
FROM claimed
UNION ALL
SELECT found.request_digest, found.lease_id, coalesce(found.code, 0)::smallint, found.header, found.body
FROM found
WHERE NOT found.renewable;

-- name: ForgetIdempotencyKeys :execrows
-- Removes a batch of keys that are older than a day, oldest first. The rows are found again by their ctid, which the lock keeps: a join would
-- read the whole table as soon as the batch is a tenth of it.
-- Locks: the rows; rows that are being claimed are skipped.
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
-- Gives a key back whose request came to no decision. A lease that another request has taken over changes nothing, and neither does one that
-- has an answer.
-- Locks: the row.
-- Index: idempotency_records_user_key.
-- Refusals: none.
DELETE FROM ops.idempotency_records WHERE client_id = @client_id AND user_key = @user_key::text AND lease_id = @lease_id AND code IS NULL;

-- name: KeepIdempotentAnswer :execrows
-- Writes down the answer that a request was given. A 202 may be followed by the answer with the outcome. No row changed: the lease has ended
-- and another request has it.
-- Locks: the row, FOR NO KEY UPDATE.
-- Index: idempotency_records_user_key.
-- Refusals: none.
UPDATE ops.idempotency_records SET code = @code::smallint, header = @header::jsonb, body = @body::bytea
WHERE client_id = @client_id AND user_key = @user_key::text AND lease_id = @lease_id AND (code IS NULL OR code = 202);
