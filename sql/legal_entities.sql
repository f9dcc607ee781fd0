-- Legal entities: first in the lock order.
--
-- A legal entity is closed by a bundle (LockLegalEntitiesOfBundle, ReplaceLegalEntities) or by an UPDATE of the operator; both hold its row to
-- their commit, and so does a command for one of its licences (LockLegalEntities). One comes after the other:
--
-- Command first: the closing waits. The licence is registered and stays as it is, active, of a closed legal entity, which can neither register
-- nor change one any more.
--
-- Closing first: the command finds the row held, does nothing, and looks again after a pause, without a connection, for 5 seconds at most;
-- then nothing has been done (503). With the lock it looks, sees CLOSED and refuses: legal_entity_not_active.

-- name: LockLegalEntities :many
-- Serialises the commands of legal entities until the end of the transaction, and answers those of the legal entities that another transaction
-- holds: this transaction must do nothing for them. The rules look in a later statement, whose snapshot is taken after the locks are held, so
-- they see what the holder before committed. A legal entity that does not exist locks nothing and is not answered: the rules refuse it.
-- Locks: the legal entities' rows, FOR NO KEY UPDATE (foreign keys to them do not wait); rows that others hold are skipped, so nothing waits
-- here and the order does not matter.
-- Index: legal_entities_pkey.
-- Refusals: none.
SELECT held.id
FROM prm.legal_entities held
WHERE held.id = ANY (@ids::uuid[])
    AND held.id <> ALL (ARRAY(SELECT free.id FROM prm.legal_entities free WHERE free.id = ANY (@ids::uuid[]) FOR NO KEY UPDATE SKIP LOCKED));
