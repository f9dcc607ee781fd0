-- +goose NO TRANSACTION
-- The index that finds the children of a value, when values are removed.
-- Live: built CONCURRENTLY, which neither holds up readers nor writers; it waits for the transactions under way, so it has no
-- lock_timeout: given up half-way it would leave an invalid index. One that is left by an interrupted run is dropped first.

-- +goose Up
DROP INDEX CONCURRENTLY IF EXISTS prm.dictionary_values_parent_code_idx;
CREATE INDEX CONCURRENTLY dictionary_values_parent_code_idx ON prm.dictionary_values (dictionary, parent_code) WHERE parent_code IS NOT NULL;
COMMENT ON INDEX prm.dictionary_values_parent_code_idx IS 'Serves the foreign key to the parent when values are removed.';

-- +goose Down
DROP INDEX CONCURRENTLY prm.dictionary_values_parent_code_idx;
