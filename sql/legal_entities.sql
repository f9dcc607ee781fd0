-- Legal entities: first in the lock order.
--
-- A legal entity is closed by a bundle (LockLegalEntitiesOfBundle, ReplaceLegalEntities) or by an UPDATE of the operator. Both hold its row until
-- their commit, and so does a command for one of its licences (LockLegalEntities). So the closing and a command run one after the other:
--
-- Command first: the closing waits. The licence is registered, and it stays active although its legal entity is closed. The legal entity can no
-- longer register or change a licence.
--
-- Closing first: the command finds the row held, does nothing, and looks again after a pause, without a connection, for at most 5 seconds. Then
-- it gives up: nothing has been done, and the answer is 503. When it gets the lock it reads CLOSED and refuses: legal_entity_not_active.

-- name: LockLegalEntities :many
-- Serialises the commands of legal entities until the end of the transaction. Answers the legal entities that another transaction holds: this
-- transaction must do nothing for them. The rules read in a later statement, whose snapshot is taken after the locks were granted, so they see the
-- changes of earlier holders. A legal entity that does not exist is not locked and not answered: the rules refuse it.
-- Locks: the legal entities' rows, FOR NO KEY UPDATE (foreign keys to them do not wait); rows that others hold are skipped, so nothing waits
-- here and the order does not matter.
-- Index: legal_entities_pkey.
-- Refusals: none.
SELECT held.id
FROM prm.legal_entities held
WHERE held.id = ANY (@ids::uuid[])
    AND held.id <> ALL (ARRAY(SELECT free.id FROM prm.legal_entities free WHERE free.id = ANY (@ids::uuid[]) FOR NO KEY UPDATE SKIP LOCKED));
