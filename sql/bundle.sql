-- Fixture bundles: whole rows that replace those of the same key. Run by the owner, all of a file in one transaction: LockBundles,
-- then the sections in the lock order, legal entity, licence, service request. Rows come as a JSON array of objects named as the
-- columns, complete and checked; the constraints are the net. What a statement locks, it locks in order of the key.

-- name: AddDictionaryValues :exec
-- The values of dictionaries that RemoveDictionaryValues has emptied.
-- Locks: the new rows; the dictionaries' rows FOR KEY SHARE, which no one else wants: see LockBundles.
-- Index: dictionary_values_pkey, dictionaries_pkey.
-- Refusals: none.
INSERT INTO prm.dictionary_values (dictionary, code, description, is_active)
SELECT dictionary, code, description, is_active
FROM jsonb_populate_recordset(NULL::prm.dictionary_values, @rows);

-- name: AddHistory :exec
-- Histories of service requests that ReplaceServiceRequests has locked and RemoveHistory has emptied: the order of the array is
-- the order of the rows.
-- Locks: the new rows; the service requests are held.
-- Index: service_requests_pkey.
-- Refusals: none.
INSERT INTO medical_events.service_request_history
    (service_request_id, status, program_processing_status, used_by_legal_entity_id, used_by_employee_id, status_reason, inserted_at, inserted_by)
SELECT service_request_id, status, program_processing_status, used_by_legal_entity_id, used_by_employee_id, status_reason, inserted_at, inserted_by
FROM jsonb_populate_recordset(NULL::medical_events.service_request_history, @rows);

-- name: ListDictionaryCodes :many
-- All codes of a dictionary, also those that are no longer allowed in new data: old rows carry them.
-- Locks: none.
-- Index: dictionary_values_pkey.
-- Refusals: none.
SELECT code FROM prm.dictionary_values WHERE dictionary = @dictionary;

-- name: LockBundles :exec
-- Lets bundles in one at a time, so that two of them that hold the same rows in another order cannot wait for each other. It stands
-- in nobody else's way: the service reads dictionaries and never writes them.
-- Locks: the table, SHARE ROW EXCLUSIVE, until the end of the transaction.
-- Index: none.
-- Refusals: none.
LOCK TABLE prm.dictionaries IN SHARE ROW EXCLUSIVE MODE;

-- name: LockLegalEntities :exec
-- Serialises with the commands of these legal entities until the end of the transaction, as LockLegalEntity does with one.
-- Locks: the rows, FOR NO KEY UPDATE, in order of id.
-- Index: legal_entities_pkey.
-- Refusals: none; what does not exist locks nothing and the foreign keys refuse it.
SELECT FROM prm.legal_entities WHERE id = ANY (@ids::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: RemoveDictionaryValues :exec
-- Empties the dictionaries of these names.
-- Locks: the rows, FOR UPDATE; no other transaction writes them.
-- Index: dictionary_values_pkey.
-- Refusals: none.
DELETE FROM prm.dictionary_values WHERE dictionary = ANY (@dictionaries::text[]);

-- name: RemoveHistory :exec
-- Empties the histories of service requests. Runs after ReplaceServiceRequests: its snapshot, taken under their locks, shows also what
-- the holder before has added.
-- Locks: the rows, FOR UPDATE; nobody else may write them while the service requests are held.
-- Index: service_request_history_service_request_id_idx.
-- Refusals: none.
DELETE FROM medical_events.service_request_history WHERE service_request_id = ANY (@service_request_ids::uuid[]);

-- name: ReplaceDictionaries :exec
-- Adds dictionaries, or replaces those of the same name; their values are another matter.
-- Locks: the rows, FOR NO KEY UPDATE.
-- Index: dictionaries_pkey.
-- Refusals: none.
INSERT INTO prm.dictionaries (name, is_active)
SELECT name, is_active
FROM jsonb_populate_recordset(NULL::prm.dictionaries, @rows)
ORDER BY name
ON CONFLICT (name) DO UPDATE SET is_active = excluded.is_active;

-- name: ReplaceDivisions :exec
-- Adds divisions, or replaces those of the same id.
-- Locks: the rows, FOR NO KEY UPDATE; their legal entities, FOR KEY SHARE.
-- Index: divisions_pkey, legal_entities_pkey.
-- Refusals: none.
INSERT INTO prm.divisions (id, legal_entity_id, name, status, inserted_at, inserted_by, updated_at, updated_by)
SELECT id, legal_entity_id, name, status, inserted_at, inserted_by, updated_at, updated_by
FROM jsonb_populate_recordset(NULL::prm.divisions, @rows)
ORDER BY id
ON CONFLICT (id) DO UPDATE SET
    legal_entity_id = excluded.legal_entity_id,
    name = excluded.name,
    status = excluded.status,
    inserted_at = excluded.inserted_at,
    inserted_by = excluded.inserted_by,
    updated_at = excluded.updated_at,
    updated_by = excluded.updated_by;

-- name: ReplaceEmployees :exec
-- Adds employees, or replaces those of the same id.
-- Locks: the rows, FOR NO KEY UPDATE; their legal entities, FOR KEY SHARE.
-- Index: employees_pkey, legal_entities_pkey.
-- Refusals: none.
INSERT INTO prm.employees (id, legal_entity_id, employee_type, status, inserted_at, inserted_by, updated_at, updated_by)
SELECT id, legal_entity_id, employee_type, status, inserted_at, inserted_by, updated_at, updated_by
FROM jsonb_populate_recordset(NULL::prm.employees, @rows)
ORDER BY id
ON CONFLICT (id) DO UPDATE SET
    legal_entity_id = excluded.legal_entity_id,
    employee_type = excluded.employee_type,
    status = excluded.status,
    inserted_at = excluded.inserted_at,
    inserted_by = excluded.inserted_by,
    updated_at = excluded.updated_at,
    updated_by = excluded.updated_by;

-- name: ReplaceLegalEntities :exec
-- Adds legal entities, or replaces those of the same id.
-- Locks: the rows, FOR NO KEY UPDATE: waits for commands of these legal entities.
-- Index: legal_entities_pkey.
-- Refusals: none.
INSERT INTO prm.legal_entities (id, edrpou, name, type, status, nhs_verified, inserted_at, inserted_by, updated_at, updated_by)
SELECT id, edrpou, name, type, status, nhs_verified, inserted_at, inserted_by, updated_at, updated_by
FROM jsonb_populate_recordset(NULL::prm.legal_entities, @rows)
ORDER BY id
ON CONFLICT (id) DO UPDATE SET
    edrpou = excluded.edrpou,
    name = excluded.name,
    type = excluded.type,
    status = excluded.status,
    nhs_verified = excluded.nhs_verified,
    inserted_at = excluded.inserted_at,
    inserted_by = excluded.inserted_by,
    updated_at = excluded.updated_at,
    updated_by = excluded.updated_by;

-- name: ReplaceLicenses :exec
-- Adds licences, or replaces those of the same id; SetLicensesAside has made room for them.
-- Locks: the rows, FOR NO KEY UPDATE; their legal entities, FOR KEY SHARE.
-- Index: licenses_pkey, licenses_active_additional_type_key, legal_entities_pkey.
-- Refusals: none.
INSERT INTO prm.licenses (
    id, legal_entity_id, type, is_active, is_primary, license_number, issued_by, issued_date, issuer_status, expiry_date, active_from_date,
    what_licensed, order_no, inserted_at, inserted_by, updated_at, updated_by)
SELECT
    id, legal_entity_id, type, is_active, is_primary, license_number, issued_by, issued_date, issuer_status, expiry_date, active_from_date,
    what_licensed, order_no, inserted_at, inserted_by, updated_at, updated_by
FROM jsonb_populate_recordset(NULL::prm.licenses, @rows)
ORDER BY id
ON CONFLICT (id) DO UPDATE SET
    legal_entity_id = excluded.legal_entity_id,
    type = excluded.type,
    is_active = excluded.is_active,
    is_primary = excluded.is_primary,
    license_number = excluded.license_number,
    issued_by = excluded.issued_by,
    issued_date = excluded.issued_date,
    issuer_status = excluded.issuer_status,
    expiry_date = excluded.expiry_date,
    active_from_date = excluded.active_from_date,
    what_licensed = excluded.what_licensed,
    order_no = excluded.order_no,
    inserted_at = excluded.inserted_at,
    inserted_by = excluded.inserted_by,
    updated_at = excluded.updated_at,
    updated_by = excluded.updated_by;

-- name: ReplaceParameters :exec
-- Adds chart parameters, or replaces those of the same name.
-- Locks: the rows, FOR NO KEY UPDATE.
-- Index: parameters_pkey.
-- Refusals: none.
INSERT INTO prm.parameters (name, value)
SELECT name, value
FROM jsonb_populate_recordset(NULL::prm.parameters, @rows)
ORDER BY name
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: ReplaceServiceRequests :exec
-- Adds service requests, or replaces those of the same id; their histories are another matter.
-- Locks: the rows, FOR NO KEY UPDATE: waits for jobs that act on them.
-- Index: service_requests_pkey.
-- Refusals: none.
INSERT INTO medical_events.service_requests (
    id, requisition, patient_id, status, program_id, program_processing_status, used_by_legal_entity_id, used_by_employee_id,
    used_by_division_id, category, code_id, requester_legal_entity_id, expiration_date, completed_with, program_service_id, status_reason,
    content, inserted_at, inserted_by, updated_at, updated_by)
SELECT
    id, requisition, patient_id, status, program_id, program_processing_status, used_by_legal_entity_id, used_by_employee_id,
    used_by_division_id, category, code_id, requester_legal_entity_id, expiration_date, completed_with, program_service_id, status_reason,
    content, inserted_at, inserted_by, updated_at, updated_by
FROM jsonb_populate_recordset(NULL::medical_events.service_requests, @rows)
ORDER BY id
ON CONFLICT (id) DO UPDATE SET
    requisition = excluded.requisition,
    patient_id = excluded.patient_id,
    status = excluded.status,
    program_id = excluded.program_id,
    program_processing_status = excluded.program_processing_status,
    used_by_legal_entity_id = excluded.used_by_legal_entity_id,
    used_by_employee_id = excluded.used_by_employee_id,
    used_by_division_id = excluded.used_by_division_id,
    category = excluded.category,
    code_id = excluded.code_id,
    requester_legal_entity_id = excluded.requester_legal_entity_id,
    expiration_date = excluded.expiration_date,
    completed_with = excluded.completed_with,
    program_service_id = excluded.program_service_id,
    status_reason = excluded.status_reason,
    content = excluded.content,
    inserted_at = excluded.inserted_at,
    inserted_by = excluded.inserted_by,
    updated_at = excluded.updated_at,
    updated_by = excluded.updated_by;

-- name: SetLicensesAside :exec
-- Takes the licences that are about to be replaced out of the rule of one active additional licence of a type, which would else judge
-- their exchange row by row. Runs for all licences of a file before the first is replaced, and after LockLegalEntities.
-- Locks: the rows, FOR NO KEY UPDATE; their legal entities are held, so no command decides on them now.
-- Index: licenses_pkey.
-- Refusals: none.
UPDATE prm.licenses SET is_active = false WHERE id = ANY (@ids::uuid[]) AND is_active AND NOT is_primary;

-- name: StartBundle :one
-- The moment that a bundle's rows bear where they name none.
-- Locks: none.
-- Index: none.
-- Refusals: none.
SELECT ops.instant(sqlc.narg('as_of'))::timestamptz AS moment;
