-- Licences of legal entities: second in the lock order.

-- name: CreateLicense :one
-- Registers an additional licence if no rule refuses it: the ladder, the licence and its event in one statement.
-- Runs after LockLegalEntity in one transaction, so that equal requests come one after the other.
-- Locks: none but the new row; the legal entity's row is held already.
-- Index: legal_entities_pkey, dictionary_values_pkey, parameters_pkey, licenses_legal_entity_id_inserted_at_id_idx.
-- Refusals, in this order: legal_entity_not_active, license_not_additional, license_type_unknown, license_type_mismatch,
-- primary_license_missing, license_type_present, license_issued_after_active, license_active_after_expiry, license_expired.
WITH judged AS (
    SELECT coalesce(CASE
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
                AND (l.expiry_date >= wanted.today OR l.expiry_date IS NULL))
            THEN 'primary_license_missing'
        WHEN EXISTS (SELECT FROM prm.licenses l WHERE l.legal_entity_id = le.id AND l.type = wanted.type)
            THEN 'license_type_present'
        WHEN wanted.issued_date > wanted.active_from_date
            THEN 'license_issued_after_active'
        WHEN wanted.active_from_date > wanted.expiry_date
            THEN 'license_active_after_expiry'
        WHEN wanted.expiry_date < wanted.today
            THEN 'license_expired'
    END, '')::text AS refusal
    FROM (SELECT
        @legal_entity_id::uuid AS legal_entity_id,
        @type::text AS type,
        @is_primary::boolean AS is_primary,
        @issued_date::date AS issued_date,
        @active_from_date::date AS active_from_date,
        sqlc.narg('expiry_date')::date AS expiry_date,
        ops.business_date(sqlc.narg('as_of')::timestamptz, @time_zone::text) AS today
    ) AS wanted
    LEFT JOIN prm.legal_entities le ON le.id = wanted.legal_entity_id
), created AS (
    INSERT INTO prm.licenses (
        legal_entity_id, type, is_primary, license_number, issued_by, issued_date, expiry_date, active_from_date,
        what_licensed, order_no, inserted_by, updated_by)
    SELECT
        @legal_entity_id, @type, @is_primary, sqlc.narg('license_number'), @issued_by, @issued_date, sqlc.narg('expiry_date'), @active_from_date,
        sqlc.narg('what_licensed'), sqlc.narg('order_no'), @user_id, @user_id
    FROM judged
    WHERE judged.refusal = ''
    RETURNING *
), event AS (
    INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, legal_entity_ids)
    SELECT 'License', created.id, '{"status": {"old_value": null, "new_value": "active"}}', created.inserted_by, ARRAY[created.legal_entity_id]
    FROM created
)
SELECT judged.refusal, created.id, created.inserted_at
FROM judged LEFT JOIN created ON true;

-- name: ListLicenseTypes :many
-- The allowed types of a licence, for the answer to one that is not.
-- Locks: none.
-- Index: dictionary_values_pkey.
-- Refusals: none.
SELECT v.code
FROM prm.dictionary_values v JOIN prm.dictionaries d ON d.name = v.dictionary
WHERE v.dictionary = 'LICENSE_TYPE' AND v.is_active AND d.is_active
ORDER BY v.code;
