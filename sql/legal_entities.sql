-- Legal entities: first in the lock order.

-- name: LockLegalEntity :exec
-- Serialises the commands of one legal entity until the end of the transaction. The rules look in a later statement, whose
-- snapshot is taken after the lock is held, so they see what the holder before committed. A legal entity that does not exist
-- locks nothing: the rules refuse it.
-- Locks: the legal entity's row, FOR NO KEY UPDATE (foreign keys to it do not wait).
-- Index: legal_entities_pkey.
-- Refusals: none.
SELECT FROM prm.legal_entities WHERE id = @id FOR NO KEY UPDATE;
