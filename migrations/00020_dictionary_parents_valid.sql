-- Every row of prm.dictionary_values has passed the check of its parent.
-- Live: reads the table once; readers and writers go on.

-- +goose Up
SET LOCAL lock_timeout = '2s';
ALTER TABLE prm.dictionary_values VALIDATE CONSTRAINT dictionary_values_parent_code_fkey;

-- +goose Down
SET LOCAL lock_timeout = '2s';
ALTER TABLE prm.dictionary_values DROP CONSTRAINT dictionary_values_parent_code_fkey;
ALTER TABLE prm.dictionary_values ADD CONSTRAINT dictionary_values_parent_code_fkey
    FOREIGN KEY (dictionary, parent_code) REFERENCES prm.dictionary_values (dictionary, code) NOT VALID;
COMMENT ON CONSTRAINT dictionary_values_parent_code_fkey ON prm.dictionary_values IS 'A child value stands below a value of its own dictionary.';
