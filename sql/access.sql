-- Access: tokens and api keys. The database stores only the SHA-256 of a secret.

-- name: Authenticate :one
-- The user and the legal entity of a token, for how many more seconds it is valid (0 or less: it has expired), whether an api key is known, and the
-- epoch of the same snapshot: while this epoch is the latest, the answer stays true. No row: the token is unknown or revoked.
-- Locks: none.
-- Index: access_tokens_pkey, api_keys_pkey.
-- Refusals: none; the program checks token, expiry, api key and scope in the order of the contract.
SELECT
    t.user_id,
    t.client_id,
    t.scopes,
    extract(epoch FROM t.expires_at - ops.instant(sqlc.narg('as_of')))::float8 AS valid_seconds,
    EXISTS (SELECT FROM ops.api_keys k WHERE k.key_hash = @key_hash AND k.revoked_at IS NULL) AS api_key_is_known,
    coalesce((SELECT e.epoch FROM ops.access_epoch e), 0)::bigint AS epoch
FROM ops.access_tokens t
WHERE t.token_hash = @token_hash AND t.revoked_at IS NULL;

-- name: CheckAPIKey :one
-- Whether an api key is known, for a caller whose token is not of this database.
-- Locks: none.
-- Index: api_keys_pkey.
-- Refusals: none.
SELECT EXISTS (SELECT FROM ops.api_keys WHERE key_hash = @key_hash AND revoked_at IS NULL) AS is_known;

-- name: CheckClient :one
-- Whether there is a legal entity for which a token can be issued. Run by the owner.
-- Locks: none.
-- Index: legal_entities_pkey.
-- Refusals: none.
SELECT EXISTS (SELECT FROM prm.legal_entities WHERE id = @id) AS is_known;

-- name: IssueAPIKey :exec
-- Adds an api key. Run by the owner.
-- Locks: the new row.
-- Index: api_keys_pkey.
-- Refusals: none; 256 random bits do not meet.
INSERT INTO ops.api_keys (key_hash, name) VALUES (@key_hash, @name);

-- name: IssueToken :one
-- Adds a token, and answers when it expires. Run by the owner.
-- Locks: the new row.
-- Index: access_tokens_pkey.
-- Refusals: none; 256 random bits do not meet.
INSERT INTO ops.access_tokens (token_hash, user_id, client_id, scopes, expires_at)
VALUES (@token_hash, @user_id, @client_id, @scopes, statement_timestamp() + make_interval(secs => @ttl_seconds))
RETURNING expires_at;

-- name: RevokeAPIKey :execrows
-- Revokes an api key. No row changed: it was not known. Run by the owner.
-- Locks: the row, FOR NO KEY UPDATE.
-- Index: api_keys_pkey.
-- Refusals: none.
UPDATE ops.api_keys SET revoked_at = statement_timestamp() WHERE key_hash = @key_hash AND revoked_at IS NULL;

-- name: RevokeToken :execrows
-- Revokes a token. No row changed: it was not known. Run by the owner.
-- Locks: the row, FOR NO KEY UPDATE.
-- Index: access_tokens_pkey.
-- Refusals: none.
UPDATE ops.access_tokens SET revoked_at = statement_timestamp() WHERE token_hash = @token_hash AND revoked_at IS NULL;
