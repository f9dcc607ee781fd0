-- What the service keeps for itself: access, jobs, events.
-- Live: creates only; no lock on any existing table.

-- +goose Up
SET LOCAL lock_timeout = '2s';

CREATE TABLE ops.access_tokens (
    token_hash  bytea       NOT NULL CONSTRAINT access_tokens_pkey PRIMARY KEY,
    user_id     uuid        NOT NULL,
    client_id   uuid        NOT NULL,
    scopes      text[]      NOT NULL,
    expires_at  timestamptz NOT NULL,
    inserted_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    revoked_at  timestamptz,
    CONSTRAINT access_tokens_hash_is_sha256 CHECK (octet_length(token_hash) = 32)
);
COMMENT ON TABLE ops.access_tokens IS 'Opaque bearer tokens. The token itself is shown once and never stored.';
COMMENT ON COLUMN ops.access_tokens.token_hash IS 'SHA-256 of the token (256 random bits, so no salt is needed).';
COMMENT ON COLUMN ops.access_tokens.user_id IS 'The person who acts.';
COMMENT ON COLUMN ops.access_tokens.client_id IS 'The legal entity on whose behalf.';
COMMENT ON COLUMN ops.access_tokens.scopes IS 'What the token allows, e.g. license:write.';
COMMENT ON COLUMN ops.access_tokens.expires_at IS 'From this moment on the token is expired.';
COMMENT ON COLUMN ops.access_tokens.inserted_at IS 'When it was issued.';
COMMENT ON COLUMN ops.access_tokens.revoked_at IS 'When it was revoked; a revoked token is unknown.';
COMMENT ON CONSTRAINT access_tokens_pkey ON ops.access_tokens IS 'Serves the check of a token at every request.';
COMMENT ON CONSTRAINT access_tokens_hash_is_sha256 ON ops.access_tokens IS 'Guards against storing a token in the clear.';

CREATE TABLE ops.api_keys (
    key_hash    bytea       NOT NULL CONSTRAINT api_keys_pkey PRIMARY KEY,
    name        text        NOT NULL,
    inserted_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    revoked_at  timestamptz,
    CONSTRAINT api_keys_hash_is_sha256 CHECK (octet_length(key_hash) = 32),
    CONSTRAINT api_keys_name_not_empty CHECK (name <> '')
);
COMMENT ON TABLE ops.api_keys IS 'Keys of the information systems that may call. The key itself is shown once and never stored.';
COMMENT ON COLUMN ops.api_keys.key_hash IS 'SHA-256 of the key (256 random bits, so no salt is needed).';
COMMENT ON COLUMN ops.api_keys.name IS 'The information system, for people.';
COMMENT ON COLUMN ops.api_keys.inserted_at IS 'When it was issued.';
COMMENT ON COLUMN ops.api_keys.revoked_at IS 'When it was revoked; a revoked key is unknown.';
COMMENT ON CONSTRAINT api_keys_pkey ON ops.api_keys IS 'Serves the check of a key at every request.';
COMMENT ON CONSTRAINT api_keys_hash_is_sha256 ON ops.api_keys IS 'Guards against storing a key in the clear.';
COMMENT ON CONSTRAINT api_keys_name_not_empty ON ops.api_keys IS 'A key without an owner could not be revoked with confidence.';

CREATE TABLE ops.jobs (
    id                 uuid        NOT NULL CONSTRAINT jobs_pkey PRIMARY KEY,
    sequence_number    bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    action             text        NOT NULL,
    service_request_id uuid        NOT NULL,
    patient_id         uuid        NOT NULL,
    client_id          uuid        NOT NULL,
    user_id            uuid        NOT NULL,
    body               jsonb       NOT NULL,
    request_digest     bytea       NOT NULL,
    status             text        NOT NULL DEFAULT 'pending',
    refusal            text,
    attempts           smallint    NOT NULL DEFAULT 0,
    not_before         timestamptz,
    inserted_at        timestamptz NOT NULL DEFAULT statement_timestamp(),
    ended_at           timestamptz,
    CONSTRAINT jobs_action_known CHECK (action IN ('use', 'release', 'process', 'complete')),
    CONSTRAINT jobs_status_known CHECK (status IN ('pending', 'processed', 'failed')),
    CONSTRAINT jobs_failed_has_refusal CHECK ((status = 'failed') = (refusal IS NOT NULL)),
    CONSTRAINT jobs_ended_has_moment CHECK ((status = 'pending') = (ended_at IS NULL)),
    CONSTRAINT jobs_digest_is_sha256 CHECK (octet_length(request_digest) = 32)
-- A job is written twice, at its birth and at its end, and its end leaves the partial indexes, so no room on the page would make that
-- update HOT: pages are filled. Dead versions come at the rate of the jobs: vacuum by count, not by share of a table that only grows.
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_analyze_scale_factor = 0.02);
CREATE UNIQUE INDEX jobs_pending_request_key ON ops.jobs (service_request_id, request_digest) WHERE status = 'pending';
CREATE INDEX jobs_pending_sequence_number_idx ON ops.jobs (sequence_number) WHERE status = 'pending';
CREATE INDEX jobs_ended_at_idx ON ops.jobs (ended_at) WHERE ended_at IS NOT NULL;
COMMENT ON TABLE ops.jobs IS
    'The public job resource and the queue in one row: what is pending is queued. Last in the lock order; workers claim with FOR NO KEY UPDATE SKIP LOCKED and so never wait for one.';
COMMENT ON COLUMN ops.jobs.id IS 'Random id, given out in the answer to the action.';
COMMENT ON COLUMN ops.jobs.sequence_number IS 'Order of acceptance: older first.';
COMMENT ON COLUMN ops.jobs.action IS 'What is to be done to the service request.';
COMMENT ON COLUMN ops.jobs.service_request_id IS 'The service request acted on; no foreign key, it lives in another database of the domain.';
COMMENT ON COLUMN ops.jobs.patient_id IS 'Patient of the service request, for the link of a processed job.';
COMMENT ON COLUMN ops.jobs.client_id IS 'The legal entity that asked; no other may see the job.';
COMMENT ON COLUMN ops.jobs.user_id IS 'The person who asked.';
COMMENT ON COLUMN ops.jobs.body IS 'What the caller sent, checked and flattened: ids by element name.';
COMMENT ON COLUMN ops.jobs.request_digest IS 'SHA-256 over action, service request, client, user and body: equal requests have equal digests.';
COMMENT ON COLUMN ops.jobs.status IS 'pending, or ended for ever: processed, failed.';
COMMENT ON COLUMN ops.jobs.refusal IS 'Code of the rule that refused, or internal_error; only of a failed job.';
COMMENT ON COLUMN ops.jobs.attempts IS 'How often it made its transaction fail for another reason than a refusal; from the first on it runs alone, after five it ends failed.';
COMMENT ON COLUMN ops.jobs.not_before IS 'After an unsuccessful attempt: when to try again.';
COMMENT ON COLUMN ops.jobs.inserted_at IS 'When it was accepted.';
COMMENT ON COLUMN ops.jobs.ended_at IS 'When it ended.';
COMMENT ON CONSTRAINT jobs_pkey ON ops.jobs IS 'Serves the look-up of one job, and its end.';
COMMENT ON CONSTRAINT jobs_action_known ON ops.jobs IS 'The worker knows these four.';
COMMENT ON CONSTRAINT jobs_status_known ON ops.jobs IS 'The contract knows these three.';
COMMENT ON CONSTRAINT jobs_failed_has_refusal ON ops.jobs IS 'A failed job, and no other, says why.';
COMMENT ON CONSTRAINT jobs_ended_has_moment ON ops.jobs IS 'An ended job, and no other, has a moment of its end.';
COMMENT ON CONSTRAINT jobs_digest_is_sha256 ON ops.jobs IS 'Equal requests are recognised by a full digest.';
COMMENT ON INDEX ops.jobs_pending_request_key IS
    'One pending job for equal requests; and serves the worker''s question for an older pending job of the same service request.';
COMMENT ON INDEX ops.jobs_pending_sequence_number_idx IS 'The queue, oldest first.';
COMMENT ON INDEX ops.jobs_ended_at_idx IS 'Serves the measurement of how long the latest jobs took.';

-- +goose StatementBegin
CREATE FUNCTION ops.refuse_leaving_ended_job() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = ''
AS $$
BEGIN
    RAISE EXCEPTION 'job % is % for ever', OLD.id, OLD.status
        USING ERRCODE = 'check_violation', SCHEMA = 'ops', TABLE = 'jobs', CONSTRAINT = 'jobs_end_stays';
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION ops.refuse_leaving_ended_job() IS 'Body of the trigger jobs_end_stays.';

CREATE TRIGGER jobs_end_stays
    BEFORE UPDATE ON ops.jobs
    FOR EACH ROW
    WHEN (OLD.status <> 'pending' AND NOT pg_has_role('reiestr_owner', 'USAGE'))
    EXECUTE FUNCTION ops.refuse_leaving_ended_job();
COMMENT ON TRIGGER jobs_end_stays ON ops.jobs IS 'A job ends once: no late worker overwrites a result.';

CREATE TABLE ops.events (
    id              uuid        NOT NULL DEFAULT gen_random_uuid() CONSTRAINT events_pkey PRIMARY KEY,
    sequence_number bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    event_type      text        NOT NULL DEFAULT 'StatusChangeEvent',
    entity_type     text        NOT NULL,
    entity_id       uuid        NOT NULL,
    properties      jsonb       NOT NULL,
    changed_by      uuid        NOT NULL,
    event_time      timestamptz NOT NULL DEFAULT statement_timestamp(),
    CONSTRAINT events_event_type_known CHECK (event_type = 'StatusChangeEvent'),
    CONSTRAINT events_entity_type_known CHECK (entity_type IN ('ServiceRequest', 'License')),
    CONSTRAINT events_properties_shape CHECK (jsonb_typeof(properties) = 'object' AND properties <> '{}')
);
CREATE INDEX events_entity_id_sequence_number_idx ON ops.events (entity_id, sequence_number);
COMMENT ON TABLE ops.events IS 'Append-only outbox: every effect adds one row in its own transaction.';
COMMENT ON COLUMN ops.events.id IS 'Random id by which a consumer tells duplicates.';
COMMENT ON COLUMN ops.events.sequence_number IS 'Order of the events of one entity: they are written under its row lock, so later is larger.';
COMMENT ON COLUMN ops.events.event_type IS 'Always StatusChangeEvent so far.';
COMMENT ON COLUMN ops.events.entity_type IS 'ServiceRequest or License.';
COMMENT ON COLUMN ops.events.entity_id IS 'What changed.';
COMMENT ON COLUMN ops.events.properties IS '{"status" | "program_processing_status": {"old_value", "new_value"}}.';
COMMENT ON COLUMN ops.events.changed_by IS 'User on whose request.';
COMMENT ON COLUMN ops.events.event_time IS 'When the change was made.';
COMMENT ON CONSTRAINT events_pkey ON ops.events IS 'An event is known by its id.';
COMMENT ON CONSTRAINT events_event_type_known ON ops.events IS 'The contract knows this one.';
COMMENT ON CONSTRAINT events_entity_type_known ON ops.events IS 'The contract knows these two.';
COMMENT ON CONSTRAINT events_properties_shape ON ops.events IS 'An event tells of at least one change.';
COMMENT ON INDEX ops.events_entity_id_sequence_number_idx IS 'Serves the events of one entity in their order.';

GRANT SELECT ON ops.access_tokens, ops.api_keys TO reiestr_app;
GRANT SELECT, INSERT ON ops.jobs TO reiestr_app;
GRANT UPDATE (status, refusal, attempts, not_before, ended_at) ON ops.jobs TO reiestr_app;
GRANT INSERT ON ops.events TO reiestr_app;

-- +goose Down
SET LOCAL lock_timeout = '2s';
DROP TABLE ops.events;
DROP TABLE ops.jobs;
DROP FUNCTION ops.refuse_leaving_ended_job();
DROP TABLE ops.api_keys;
DROP TABLE ops.access_tokens;
