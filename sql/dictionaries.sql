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
