-- Licences of legal entities: second in the lock order.

-- name: CreateLicenses :many
-- Registers additional licences, at most one for each legal entity, each if no rule refuses it: the ladder, the licences and their events in one
-- statement. Each licence is a JSON object: its columns, and the id of the user that creates it; an empty license_number is stored as null. The
-- answer to a licence is a JSON object of its columns; null if a rule refuses it. Runs after LockLegalEntities in one transaction, so that equal
-- requests come one after the other, and so do a creation and the closing of the legal entity (legal_entities.sql).
-- Locks: the new rows only; the legal entities' rows are held already.
-- Index: legal_entities_pkey, dictionary_values_pkey, parameters_pkey, licenses_legal_entity_id_inserted_at_id_idx.
-- Refusals, in this order: legal_entity_not_active, license_not_additional, license_type_unknown, license_type_mismatch,
-- primary_license_missing, license_type_present, license_issued_after_active, license_active_after_expiry, license_expired.
WITH wanted AS (
    SELECT
        (one.value ->> 'legal_entity_id')::uuid AS legal_entity_id,
        (one.value ->> 'type')::text AS type,
        (one.value ->> 'is_primary')::boolean AS is_primary,
        nullif(one.value ->> 'license_number', '')::text AS license_number,
        (one.value ->> 'issued_by')::text AS issued_by,
        (one.value ->> 'issued_date')::date AS issued_date,
        (one.value ->> 'expiry_date')::date AS expiry_date,
        (one.value ->> 'active_from_date')::date AS active_from_date,
        (one.value ->> 'what_licensed')::text AS what_licensed,
        (one.value ->> 'order_no')::text AS order_no,
        (one.value ->> 'user_id')::uuid AS user_id
    FROM jsonb_array_elements(@licenses::jsonb) AS one
), judged AS (
    SELECT
        wanted.*,
        coalesce(CASE
            WHEN le.status IS NULL OR le.status NOT IN ('ACTIVE', 'SUSPENDED')
                THEN 'legal_entity_not_active'
            WHEN wanted.is_primary
                THEN 'license_not_additional'
            WHEN NOT EXISTS (
                SELECT FROM prm.dictionary_values v JOIN prm.dictionaries d ON d.name = v.dictionary
                WHERE v.dictionary = 'LICENSE_TYPE' AND v.code = wanted.type AND v.is_active AND d.is_active)
                THEN 'license_type_unknown'
            WHEN NOT EXISTS (
                SELECT FROM prm.parameters p
                WHERE p.name = 'LEGAL_ENTITY_' || le.type || '_ADDITIONAL_LICENSE_TYPES'
                    AND jsonb_typeof(p.value) = 'array' AND p.value ? wanted.type)
                THEN 'license_type_mismatch'
            WHEN NOT EXISTS (
                SELECT FROM prm.licenses l
                WHERE l.legal_entity_id = le.id AND l.is_active AND l.is_primary
                    AND (l.expiry_date >= today.date OR l.expiry_date IS NULL))
                THEN 'primary_license_missing'
            WHEN EXISTS (SELECT FROM prm.licenses l WHERE l.legal_entity_id = le.id AND l.type = wanted.type)
                THEN 'license_type_present'
            WHEN wanted.issued_date > wanted.active_from_date
                THEN 'license_issued_after_active'
            WHEN wanted.active_from_date > wanted.expiry_date
                THEN 'license_active_after_expiry'
            WHEN wanted.expiry_date < today.date
                THEN 'license_expired'
        END, '')::text AS refusal
    FROM wanted
    CROSS JOIN (SELECT ops.business_date(sqlc.narg('as_of')::timestamptz, @time_zone::text) AS date) AS today
    LEFT JOIN prm.legal_entities le ON le.id = wanted.legal_entity_id
), created AS (
    INSERT INTO prm.licenses (
        legal_entity_id, type, is_primary, license_number, issued_by, issued_date, expiry_date, active_from_date,
        what_licensed, order_no, inserted_by, updated_by)
    SELECT
        judged.legal_entity_id, judged.type, judged.is_primary, judged.license_number, judged.issued_by, judged.issued_date,
        judged.expiry_date, judged.active_from_date, judged.what_licensed, judged.order_no, judged.user_id, judged.user_id
    FROM judged
    WHERE judged.refusal = ''
    RETURNING id, legal_entity_id, inserted_by, to_json(licenses) AS license
), event AS (
    INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, legal_entity_ids)
    SELECT 'License', created.id, '{"status": {"old_value": null, "new_value": "active"}}', created.inserted_by, ARRAY[created.legal_entity_id]
    FROM created
)
SELECT judged.legal_entity_id::uuid AS legal_entity_id, judged.refusal, created.license::json AS license
FROM judged LEFT JOIN created ON created.legal_entity_id = judged.legal_entity_id;

-- name: GetLicense :one
-- One licence of a legal entity.
-- Locks: none.
-- Index: licenses_pkey.
-- Refusals: none; no row means that the legal entity has no such licence.
SELECT * FROM prm.licenses WHERE id = @id AND legal_entity_id = @legal_entity_id;

-- name: ListLicenses :many
-- A page of the active licences of a legal entity, oldest first. Each row has the number of licences on all pages. A filter that is null selects all.
-- Locks: none.
-- Index: licenses_legal_entity_id_inserted_at_id_idx.
-- Refusals: none.
SELECT sqlc.embed(l), count(*) OVER () AS total_entries
FROM prm.licenses l
WHERE l.legal_entity_id = @legal_entity_id
    AND l.is_active
    AND (sqlc.narg('id')::uuid IS NULL OR l.id = sqlc.narg('id'))
    AND (sqlc.narg('license_number')::text IS NULL OR l.license_number = sqlc.narg('license_number'))
    AND (sqlc.narg('type')::text IS NULL OR l.type = sqlc.narg('type'))
    AND (sqlc.narg('is_primary')::boolean IS NULL OR l.is_primary = sqlc.narg('is_primary'))
ORDER BY l.inserted_at, l.id
LIMIT @page_size::bigint OFFSET @page_offset::bigint;

-- name: LockLicense :exec
-- Locks the licence that a legal entity is about to change. The rules read it in a later statement, whose snapshot is taken after the lock was
-- granted. A licence that does not exist or belongs to another legal entity is not locked: the rules refuse it.
-- Locks: the licence's row, FOR NO KEY UPDATE NOWAIT; the legal entity's row is held already, so only a writer that does not hold that can be
-- met: lock_not_available, and the command looks again after a pause, as for a held legal entity.
-- Index: licenses_pkey.
-- Refusals: none.
SELECT FROM prm.licenses WHERE id = @id AND legal_entity_id = @legal_entity_id FOR NO KEY UPDATE NOWAIT;

-- name: UpdateLicense :one
-- Changes an additional licence if no rule refuses it. The changes are a JSON object of columns: a key that is absent keeps the stored value, and an
-- empty license_number clears it. If no value differs nothing is written, so that updated_at and updated_by are those of the last change. If values
-- differ and no rule refuses, one row must be changed: otherwise the licence is not the one that was decided on, and the transaction must not be
-- committed. An inactive licence exists and can be updated. There is no event: events report changes of statuses, and an update changes none. Runs
-- after LockLegalEntities and LockLicense in one transaction.
-- Locks: the licence's row, FOR NO KEY UPDATE; held since LockLicense.
-- Index: legal_entities_pkey, licenses_pkey, licenses_legal_entity_id_inserted_at_id_idx.
-- Refusals, in this order: legal_entity_not_active, license_not_found, license_is_primary, license_made_primary,
-- license_of_another, license_type_changed, primary_license_missing, license_issued_after_active, license_active_after_expiry,
-- license_expired.
WITH wanted AS (
    SELECT
        stored.id,
        stored.legal_entity_id,
        stored.type AS stored_type,
        stored.is_primary AS stored_is_primary,
        CASE WHEN asked.changes ? 'license_number' THEN nullif(asked.changes ->> 'license_number', '') ELSE stored.license_number END AS license_number,
        coalesce(asked.changes ->> 'issued_by', stored.issued_by) AS issued_by,
        coalesce((asked.changes ->> 'issued_date')::date, stored.issued_date) AS issued_date,
        coalesce((asked.changes ->> 'expiry_date')::date, stored.expiry_date) AS expiry_date,
        coalesce((asked.changes ->> 'active_from_date')::date, stored.active_from_date) AS active_from_date,
        coalesce(asked.changes ->> 'what_licensed', stored.what_licensed) AS what_licensed,
        coalesce(asked.changes ->> 'order_no', stored.order_no) AS order_no,
        asked.changes ->> 'type' AS wanted_type,
        (asked.changes ->> 'is_primary')::boolean AS wanted_is_primary
    FROM (SELECT @id::uuid AS id, @changes::jsonb AS changes) AS asked
    LEFT JOIN prm.licenses stored ON stored.id = asked.id
), judged AS (
    SELECT
        wanted.*,
        coalesce(CASE
            WHEN le.status IS NULL OR le.status NOT IN ('ACTIVE', 'SUSPENDED')
                THEN 'legal_entity_not_active'
            WHEN wanted.id IS NULL
                THEN 'license_not_found'
            WHEN wanted.stored_is_primary
                THEN 'license_is_primary'
            WHEN wanted.wanted_is_primary
                THEN 'license_made_primary'
            WHEN wanted.legal_entity_id <> le.id
                THEN 'license_of_another'
            WHEN wanted.stored_type IS DISTINCT FROM wanted.wanted_type
                THEN 'license_type_changed'
            WHEN NOT EXISTS (
                SELECT FROM prm.licenses l
                WHERE l.legal_entity_id = le.id AND l.is_active AND l.is_primary
                    AND (l.expiry_date >= today.date OR l.expiry_date IS NULL))
                THEN 'primary_license_missing'
            WHEN wanted.issued_date > wanted.active_from_date
                THEN 'license_issued_after_active'
            WHEN wanted.active_from_date > wanted.expiry_date
                THEN 'license_active_after_expiry'
            WHEN wanted.expiry_date < today.date
                THEN 'license_expired'
        END, '')::text AS refusal
    FROM wanted
    CROSS JOIN (SELECT ops.business_date(sqlc.narg('as_of')::timestamptz, @time_zone::text) AS date) AS today
    LEFT JOIN prm.legal_entities le ON le.id = @legal_entity_id
), differing AS (
    SELECT judged.id
    FROM judged JOIN prm.licenses l ON l.id = judged.id
    WHERE judged.refusal = ''
        AND (l.license_number, l.issued_by, l.issued_date, l.expiry_date, l.active_from_date, l.what_licensed, l.order_no) IS DISTINCT FROM
            (judged.license_number, judged.issued_by, judged.issued_date, judged.expiry_date, judged.active_from_date, judged.what_licensed, judged.order_no)
), updated AS (
    UPDATE prm.licenses l SET
        license_number = judged.license_number,
        issued_by = judged.issued_by,
        issued_date = judged.issued_date,
        expiry_date = judged.expiry_date,
        active_from_date = judged.active_from_date,
        what_licensed = judged.what_licensed,
        order_no = judged.order_no,
        updated_at = statement_timestamp(),
        updated_by = @user_id
    FROM judged JOIN differing ON differing.id = judged.id
    WHERE l.id = judged.id AND l.legal_entity_id = @legal_entity_id AND NOT l.is_primary AND l.type = judged.wanted_type
    RETURNING l.id
)
SELECT
    judged.refusal,
    (SELECT count(*) FROM differing) AS differing,
    (SELECT count(*) FROM updated) AS updated
FROM judged;
