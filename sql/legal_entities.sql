-- Legal entities: first in the lock order.
--
-- A legal entity is closed by a bundle (LockLegalEntitiesOfBundle, ReplaceLegalEntities) or by an UPDATE of the operator; both hold its row to
-- their commit, and so does the creation of a licence (LockLegalEntity). One comes after the other:
--
-- Creation first: the closing waits. The licence is registered and stays as it is, active, of a closed legal entity, which can neither register
-- nor change one any more.
--
-- Closing first: the creation waits, until the lock_timeout of the service if it must, and then nothing has been done (503). With the lock it
-- looks, sees CLOSED and refuses: legal_entity_not_active.

-- name: LockLegalEntity :exec
-- Serialises the commands of one legal entity until the end of the transaction. The rules look in a later statement, whose
-- snapshot is taken after the lock is held, so they see what the holder before committed. A legal entity that does not exist
-- locks nothing: the rules refuse it.
-- Locks: the legal entity's row, FOR NO KEY UPDATE (foreign keys to it do not wait).
-- Index: legal_entities_pkey.
-- Refusals: none.
SELECT FROM prm.legal_entities WHERE id = @id FOR NO KEY UPDATE;
