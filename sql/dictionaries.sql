-- Dictionaries: closed lists of codes.

-- name: ListActiveCodes :many
-- The codes of a dictionary that are allowed in new data, for the answer to a code that is not. There are none if the dictionary does not exist or is
-- not active.
-- Locks: none.
-- Index: dictionary_values_pkey, dictionaries_pkey.
-- Refusals: none.
SELECT v.code
FROM prm.dictionary_values v JOIN prm.dictionaries d ON d.name = v.dictionary
WHERE v.dictionary = @dictionary AND v.is_active AND d.is_active
ORDER BY v.code;

-- name: ListDictionaries :many
-- All dictionaries with all their values: a row for each value, and one for a dictionary that has none, whose code is null. The rows come in no
-- order. is_big: the list parameter BIG_DICTIONARIES names the dictionary.
-- Locks: none.
-- Index: parameters_pkey; the tables of dictionaries are read whole.
-- Refusals: none.
SELECT
    d.name,
    d.description,
    d.labels,
    d.is_active,
    EXISTS (
        SELECT FROM prm.parameters p
        WHERE p.name = 'BIG_DICTIONARIES' AND jsonb_typeof(p.value) = 'array' AND p.value ? d.name)::boolean AS is_big,
    v.code,
    coalesce(v.description, '')::text AS value_description,
    coalesce(v.is_active, false)::boolean AS value_is_active,
    v.parent_code
FROM prm.dictionaries d LEFT JOIN prm.dictionary_values v ON v.dictionary = d.name;
