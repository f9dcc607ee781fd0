-- Legal entities: first in the lock order.
--
-- A legal entity is closed by a bundle (LockLegalEntitiesOfBundle, ReplaceLegalEntities) or by an UPDATE of the operator; both hold its row to
-- their commit, and so does the creation of a licence (LockFreeLegalEntities, LockLegalEntity). One comes after the other:
--
-- Creation first: the closing waits. The licence is registered and stays as it is, active, of a closed legal entity, which can neither register
-- nor change one any more.
--
-- Closing first: the creation waits, until the lock_timeout of the service if it must, and then nothing has been done (503). With the lock it
-- looks, sees CLOSED and refuses: legal_entity_not_active.

-- name: LockFreeLegalEntities :many
-- Serialises the commands of legal entities as LockLegalEntity does, for those of them that nobody holds, and tells which these are. So a
-- command that would have to wait does not keep those of other legal entities waiting: it is carried out by itself, after LockLegalEntity.
-- Locks: the legal entities' rows, FOR NO KEY UPDATE; those held by others are skipped, so nobody waits here and the order does not matter.
-- Index: legal_entities_pkey.
-- Refusals: none; what does not exist locks nothing and is not among the answers.
SELECT id FROM prm.legal_entities WHERE id = ANY (@ids::uuid[]) FOR NO KEY UPDATE SKIP LOCKED;

-- name: LockLegalEntity :exec
-- Serialises the commands of one legal entity until the end of the transaction. The rules look in a later statement, whose
-- snapshot is taken after the lock is held, so they see what the holder before committed. A legal entity that does not exist
-- locks nothing: the rules refuse it.
-- Locks: the legal entity's row, FOR NO KEY UPDATE (foreign keys to it do not wait).
-- Index: legal_entities_pkey.
-- Refusals: none.
SELECT FROM prm.legal_entities WHERE id = @id FOR NO KEY UPDATE;
