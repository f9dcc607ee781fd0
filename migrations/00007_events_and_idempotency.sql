-- Delivery of events to the legal entities they concern, and the answers kept for requests with an Idempotency-Key.
-- Live: a column with a constant default and a trigger on ops.events, which lock it for a moment and rewrite nothing; the rest creates
-- only. Events that are older than this migration are not delivered: nobody wrote down whom they concern.

-- +goose Up
SET LOCAL lock_timeout = '2s';

ALTER TABLE ops.events ADD COLUMN legal_entity_ids uuid[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN ops.events.legal_entity_ids IS
    'Legal entities it concerns: holder before and after and requester of a service request, owner of a licence. Nulls and repetitions count for nothing.';

CREATE TABLE ops.unpublished_events (
    sequence_number bigint NOT NULL CONSTRAINT unpublished_events_pkey PRIMARY KEY,
    event_id        uuid   NOT NULL
-- As many rows die here as events are written: vacuum by count.
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE ops.unpublished_events IS
    'Events that are not in the feed yet. Written with the event, in the effect''s transaction; taken by PublishEvents, one publisher at a time.';
COMMENT ON COLUMN ops.unpublished_events.sequence_number IS 'That of the event: the order of publication.';
COMMENT ON COLUMN ops.unpublished_events.event_id IS 'The event.';
COMMENT ON CONSTRAINT unpublished_events_pkey ON ops.unpublished_events IS 'Serves the publication, oldest first.';

CREATE TABLE ops.event_feed (
    legal_entity_id uuid   NOT NULL,
    position        bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    event_id        uuid   NOT NULL,
    CONSTRAINT event_feed_pkey PRIMARY KEY (legal_entity_id, position)
);
COMMENT ON TABLE ops.event_feed IS
    'What each legal entity is told of, in an order that only grows at its end: positions are allotted by one publisher at a time, so none appears below one that was read.';
COMMENT ON COLUMN ops.event_feed.legal_entity_id IS 'Whom the event concerns.';
COMMENT ON COLUMN ops.event_feed.position IS 'Place in the feed, and the cursor of its readers. Has gaps.';
COMMENT ON COLUMN ops.event_feed.event_id IS 'The event.';
COMMENT ON CONSTRAINT event_feed_pkey ON ops.event_feed IS 'Serves reading: a range of one legal entity''s positions.';

-- +goose StatementBegin
CREATE FUNCTION ops.queue_events() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = ''
AS $$
BEGIN
    INSERT INTO ops.unpublished_events (sequence_number, event_id)
    SELECT added.sequence_number, added.id FROM added WHERE added.legal_entity_ids <> '{}';
    RETURN NULL;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION ops.queue_events() IS 'Body of the trigger events_are_published.';

CREATE TRIGGER events_are_published
    AFTER INSERT ON ops.events
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT
    EXECUTE FUNCTION ops.queue_events();
COMMENT ON TRIGGER events_are_published ON ops.events IS 'No event is written that will not be published, whichever statement writes it.';

CREATE TABLE ops.idempotency_records (
    client_id      uuid        NOT NULL,
    key            text        NOT NULL,
    request_digest bytea       NOT NULL,
    lease_id       uuid        NOT NULL,
    locked_until   timestamptz NOT NULL,
    inserted_at    timestamptz NOT NULL DEFAULT statement_timestamp(),
    code           smallint,
    header         jsonb,
    body           bytea,
    CONSTRAINT idempotency_records_pkey PRIMARY KEY (client_id, key),
    CONSTRAINT idempotency_records_key_length CHECK (length(key) BETWEEN 1 AND 255),
    CONSTRAINT idempotency_records_digest_is_sha256 CHECK (octet_length(request_digest) = 32),
    CONSTRAINT idempotency_records_answer_is_decision CHECK (code BETWEEN 200 AND 499),
    CONSTRAINT idempotency_records_answer_is_whole CHECK ((code IS NULL) = (header IS NULL) AND (code IS NULL) = (body IS NULL))
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX idempotency_records_inserted_at_idx ON ops.idempotency_records (inserted_at);
COMMENT ON TABLE ops.idempotency_records IS 'Requests with an Idempotency-Key and the answers they were given. Of a request only a digest is kept.';
COMMENT ON COLUMN ops.idempotency_records.client_id IS 'Legal entity of the caller: each has its own keys.';
COMMENT ON COLUMN ops.idempotency_records.key IS 'The key, as the client chose it.';
COMMENT ON COLUMN ops.idempotency_records.request_digest IS 'SHA-256 over method, path with query, and body: equal requests have equal digests.';
COMMENT ON COLUMN ops.idempotency_records.lease_id IS 'Who carries the request out: only the holder of the lease writes its answer.';
COMMENT ON COLUMN ops.idempotency_records.locked_until IS 'End of the lease: without an answer by then, the process that held it has died, and the next equal request is carried out.';
COMMENT ON COLUMN ops.idempotency_records.inserted_at IS 'First use of the key; it is forgotten a day later.';
COMMENT ON COLUMN ops.idempotency_records.code IS 'HTTP status code of the answer; null: none yet.';
COMMENT ON COLUMN ops.idempotency_records.header IS 'Header fields of the answer: names with lists of values.';
COMMENT ON COLUMN ops.idempotency_records.body IS 'Body of the answer, byte for byte.';
COMMENT ON CONSTRAINT idempotency_records_pkey ON ops.idempotency_records IS 'A key is used once: of equal requests at the same moment one inserts. Serves every look-up.';
COMMENT ON CONSTRAINT idempotency_records_key_length ON ops.idempotency_records IS 'What the API lets through.';
COMMENT ON CONSTRAINT idempotency_records_digest_is_sha256 ON ops.idempotency_records IS 'Equal requests are recognised by a full digest.';
COMMENT ON CONSTRAINT idempotency_records_answer_is_decision ON ops.idempotency_records IS 'Only decisions are kept; after a failure of the service the key is free again.';
COMMENT ON CONSTRAINT idempotency_records_answer_is_whole ON ops.idempotency_records IS 'An answer has code, header and body, or there is none.';
COMMENT ON INDEX ops.idempotency_records_inserted_at_idx IS 'Serves forgetting, oldest first.';

GRANT SELECT ON ops.events TO reiestr_app;
GRANT SELECT, INSERT, DELETE ON ops.unpublished_events TO reiestr_app;
GRANT SELECT, INSERT ON ops.event_feed TO reiestr_app;
GRANT SELECT, INSERT, DELETE ON ops.idempotency_records TO reiestr_app;
GRANT UPDATE (request_digest, lease_id, locked_until, inserted_at, code, header, body) ON ops.idempotency_records TO reiestr_app;

-- +goose Down
SET LOCAL lock_timeout = '2s';
DROP TABLE ops.idempotency_records;
DROP TRIGGER events_are_published ON ops.events;
DROP FUNCTION ops.queue_events();
DROP TABLE ops.event_feed;
DROP TABLE ops.unpublished_events;
REVOKE SELECT ON ops.events FROM reiestr_app;
ALTER TABLE ops.events DROP COLUMN legal_entity_ids;
