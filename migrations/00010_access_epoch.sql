-- What lets a process keep what it knows of a token for a moment: a number that grows whenever something known may no longer be true.
-- Live: creates a table, and a trigger each on ops.access_tokens and ops.api_keys (SHARE ROW EXCLUSIVE for a moment: requests, which only
-- read there, are not held up). A program that does not know of it goes on as before.

-- +goose Up
SET LOCAL lock_timeout = '2s';

CREATE TABLE ops.access_epoch (
    is_only_row boolean NOT NULL DEFAULT true CONSTRAINT access_epoch_pkey PRIMARY KEY,
    epoch       bigint  NOT NULL,
    CONSTRAINT access_epoch_has_one_row CHECK (is_only_row)
);
COMMENT ON TABLE ops.access_epoch IS
    'One row, or none for epoch 0. Whoever keeps what a token allows keeps the epoch of the same snapshot with it: once the epoch is another, nothing kept counts.';
COMMENT ON COLUMN ops.access_epoch.is_only_row IS 'True.';
COMMENT ON COLUMN ops.access_epoch.epoch IS
    'Grows with every change of a token or an api key but issuing one, in the transaction of the change. A row, not a sequence: it must not be seen before the change is.';
COMMENT ON CONSTRAINT access_epoch_pkey ON ops.access_epoch IS 'Keeps it one row.';
COMMENT ON CONSTRAINT access_epoch_has_one_row ON ops.access_epoch IS 'Keeps it one row.';

-- +goose StatementBegin
CREATE FUNCTION ops.advance_access_epoch() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = ''
AS $$
BEGIN
    INSERT INTO ops.access_epoch AS e (epoch) VALUES (1) ON CONFLICT (is_only_row) DO UPDATE SET epoch = e.epoch + 1;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION ops.advance_access_epoch() IS 'Body of the triggers that advance the access epoch.';
REVOKE ALL ON FUNCTION ops.advance_access_epoch() FROM PUBLIC;

CREATE TRIGGER access_epoch_advances
    AFTER UPDATE OR DELETE OR TRUNCATE ON ops.access_tokens
    FOR EACH STATEMENT
    EXECUTE FUNCTION ops.advance_access_epoch();
COMMENT ON TRIGGER access_epoch_advances ON ops.access_tokens IS 'What is known of a token is forgotten whichever statement changes it.';

CREATE TRIGGER access_epoch_advances
    AFTER UPDATE OR DELETE OR TRUNCATE ON ops.api_keys
    FOR EACH STATEMENT
    EXECUTE FUNCTION ops.advance_access_epoch();
COMMENT ON TRIGGER access_epoch_advances ON ops.api_keys IS 'What is known of an api key is forgotten whichever statement changes it.';

GRANT SELECT ON ops.access_epoch TO reiestr_app;

-- +goose Down
SET LOCAL lock_timeout = '2s';
DROP TRIGGER access_epoch_advances ON ops.access_tokens;
DROP TRIGGER access_epoch_advances ON ops.api_keys;
DROP FUNCTION ops.advance_access_epoch();
DROP TABLE ops.access_epoch;
