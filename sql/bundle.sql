-- Fixture bundles: whole rows that replace the rows with the same keys. Run by the owner, a whole file in one transaction: LockBundles, then the
-- sections in the lock order, legal entity, licence, service request. Rows arrive complete and checked, many in a round trip. The constraints refuse
-- rows that the checks have missed.

-- name: AddDictionaryValues :copyfrom
-- The values of dictionaries that RemoveDictionaryValues has emptied. A value may come before its parent: one statement adds both.
-- Locks: the new rows; the dictionaries and the parents, FOR KEY SHARE.
-- Index: dictionary_values_pkey, dictionaries_pkey.
-- Refusals: none.
INSERT INTO prm.dictionary_values (dictionary, code, description, is_active, parent_code)
VALUES (@dictionary, @code, @description, @is_active, @parent_code);

-- name: AddHistory :copyfrom
-- Histories of service requests that this transaction holds. The rows are stored in the given order.
-- Locks: the new rows.
-- Index: service_requests_pkey.
-- Refusals: none.
INSERT INTO medical_events.service_request_history (
    service_request_id, status, program_processing_status, used_by_legal_entity_id, used_by_employee_id, status_reason, inserted_at,
    inserted_by)
VALUES (
    @service_request_id, @status, @program_processing_status, @used_by_legal_entity_id, @used_by_employee_id, @status_reason, @inserted_at,
    @inserted_by);

-- name: AddServiceRequests :copyfrom
-- Service requests that LockServiceRequestsOfBundle did not find.
-- Locks: the new rows.
-- Index: service_requests_pkey.
-- Refusals: none.
INSERT INTO medical_events.service_requests (
    id, requisition, patient_id, status, program_id, program_processing_status, used_by_legal_entity_id, used_by_employee_id,
    used_by_division_id, category, code_id, requester_legal_entity_id, expiration_date, completed_with, program_service_id, status_reason,
    content, inserted_at, inserted_by, updated_at, updated_by)
VALUES (
    @id, @requisition, @patient_id, @status, @program_id, @program_processing_status, @used_by_legal_entity_id, @used_by_employee_id,
    @used_by_division_id, @category, @code_id, @requester_legal_entity_id, @expiration_date, @completed_with, @program_service_id,
    @status_reason, @content, @inserted_at, @inserted_by, @updated_at, @updated_by);

-- name: ListDictionaryCodes :many
-- All codes of a dictionary, also those that are no longer allowed in new data: old rows carry them.
-- Locks: none.
-- Index: dictionary_values_pkey.
-- Refusals: none.
SELECT code FROM prm.dictionary_values WHERE dictionary = @dictionary;

-- name: LockBundles :exec
-- Lets one bundle be loaded at a time: two bundles that hold the same rows in different orders cannot wait for each other, and a row that does not
-- exist is not added by another bundle. It delays no command of the service, which reads dictionaries and never writes them.
-- Locks: the table prm.dictionaries, SHARE ROW EXCLUSIVE, until the end of the transaction.
-- Index: none.
-- Refusals: none.
LOCK TABLE prm.dictionaries IN SHARE ROW EXCLUSIVE MODE;

-- name: LockLegalEntitiesOfBundle :exec
-- Serialises the load with the commands of these legal entities until the end of the transaction, as LockLegalEntities does.
-- Locks: the legal entities, FOR NO KEY UPDATE, in order of id.
-- Index: legal_entities_pkey.
-- Refusals: none; a legal entity that does not exist locks nothing.
SELECT FROM prm.legal_entities WHERE id = ANY (@ids::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: LockServiceRequestsOfBundle :many
-- Answers which of these service requests exist, and waits for the jobs that act on them.
-- Locks: the service requests, FOR NO KEY UPDATE, in order of id.
-- Index: service_requests_pkey.
-- Refusals: none.
SELECT id FROM medical_events.service_requests WHERE id = ANY (@ids::uuid[]) ORDER BY id FOR NO KEY UPDATE;

-- name: RemoveDictionaryValues :exec
-- Removes the values of the dictionaries with these names.
-- Locks: the rows, FOR UPDATE.
-- Index: dictionary_values_pkey; dictionary_values_parent_code_idx finds whether a value has children left.
-- Refusals: none.
DELETE FROM prm.dictionary_values WHERE dictionary = ANY (@dictionaries::text[]);

-- name: RemoveHistory :exec
-- Removes the histories of service requests that this transaction holds. Its snapshot is taken under the locks, so it has the rows that earlier
-- holders have added.
-- Locks: the rows, FOR UPDATE.
-- Index: service_request_history_service_request_id_idx.
-- Refusals: none.
DELETE FROM medical_events.service_request_history WHERE service_request_id = ANY (@service_request_ids::uuid[]);

-- name: ReplaceDictionaries :batchexec
-- Adds a dictionary, or replaces the one with that name. Its values are added by AddDictionaryValues.
-- Locks: the row, FOR NO KEY UPDATE.
-- Index: dictionaries_pkey.
-- Refusals: none.
INSERT INTO prm.dictionaries (name, is_active, description, labels)
VALUES (@name, @is_active, @description, @labels)
ON CONFLICT (name) DO UPDATE SET
    is_active = excluded.is_active,
    description = excluded.description,
    labels = excluded.labels;

-- name: ReplaceDivisions :batchexec
-- Adds a division, or replaces the one with that id.
-- Locks: the row, FOR NO KEY UPDATE; its legal entity, FOR KEY SHARE.
-- Index: divisions_pkey, legal_entities_pkey.
-- Refusals: none.
INSERT INTO prm.divisions (id, legal_entity_id, name, status, inserted_at, inserted_by, updated_at, updated_by)
VALUES (@id, @legal_entity_id, @name, @status, @inserted_at, @inserted_by, @updated_at, @updated_by)
ON CONFLICT (id) DO UPDATE SET
    legal_entity_id = excluded.legal_entity_id,
    name = excluded.name,
    status = excluded.status,
    inserted_at = excluded.inserted_at,
    inserted_by = excluded.inserted_by,
    updated_at = excluded.updated_at,
    updated_by = excluded.updated_by;

-- name: ReplaceEmployees :batchexec
-- Adds an employee, or replaces the one with that id.
-- Locks: the row, FOR NO KEY UPDATE; the legal entity, FOR KEY SHARE.
-- Index: employees_pkey, legal_entities_pkey.
-- Refusals: none.
INSERT INTO prm.employees (id, legal_entity_id, employee_type, status, inserted_at, inserted_by, updated_at, updated_by)
VALUES (@id, @legal_entity_id, @employee_type, @status, @inserted_at, @inserted_by, @updated_at, @updated_by)
ON CONFLICT (id) DO UPDATE SET
    legal_entity_id = excluded.legal_entity_id,
    employee_type = excluded.employee_type,
    status = excluded.status,
    inserted_at = excluded.inserted_at,
    inserted_by = excluded.inserted_by,
    updated_at = excluded.updated_at,
    updated_by = excluded.updated_by;

-- name: ReplaceLegalEntities :batchexec
-- Adds a legal entity, or replaces the one with that id.
-- Locks: the row, FOR NO KEY UPDATE; held since LockLegalEntitiesOfBundle if there is one.
-- Index: legal_entities_pkey.
-- Refusals: none.
INSERT INTO prm.legal_entities (id, edrpou, name, type, status, nhs_verified, inserted_at, inserted_by, updated_at, updated_by)
VALUES (@id, @edrpou, @name, @type, @status, @nhs_verified, @inserted_at, @inserted_by, @updated_at, @updated_by)
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

-- name: ReplaceLicenses :batchexec
-- Adds a licence, or replaces the one with that id. SetLicensesAside has run before.
-- Locks: the row, FOR NO KEY UPDATE; its legal entity is held since LockLegalEntitiesOfBundle.
-- Index: licenses_pkey, licenses_active_additional_type_key, legal_entities_pkey.
-- Refusals: none.
INSERT INTO prm.licenses (
    id, legal_entity_id, type, is_active, is_primary, license_number, issued_by, issued_date, issuer_status, expiry_date, active_from_date,
    what_licensed, order_no, inserted_at, inserted_by, updated_at, updated_by)
VALUES (
    @id, @legal_entity_id, @type, @is_active, @is_primary, @license_number, @issued_by, @issued_date, @issuer_status, @expiry_date,
    @active_from_date, @what_licensed, @order_no, @inserted_at, @inserted_by, @updated_at, @updated_by)
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

-- name: ReplaceParameters :batchexec
-- Adds a chart parameter, or replaces the one with that name.
-- Locks: the row, FOR NO KEY UPDATE.
-- Index: parameters_pkey.
-- Refusals: none.
INSERT INTO prm.parameters (name, value)
VALUES (@name, @value)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: ReplaceServiceRequests :batchexec
-- Replaces a service request that LockServiceRequestsOfBundle has found. Its histories are replaced by RemoveHistory and AddHistory.
-- Locks: the row, FOR NO KEY UPDATE; held.
-- Index: service_requests_pkey.
-- Refusals: none.
INSERT INTO medical_events.service_requests (
    id, requisition, patient_id, status, program_id, program_processing_status, used_by_legal_entity_id, used_by_employee_id,
    used_by_division_id, category, code_id, requester_legal_entity_id, expiration_date, completed_with, program_service_id, status_reason,
    content, inserted_at, inserted_by, updated_at, updated_by)
VALUES (
    @id, @requisition, @patient_id, @status, @program_id, @program_processing_status, @used_by_legal_entity_id, @used_by_employee_id,
    @used_by_division_id, @category, @code_id, @requester_legal_entity_id, @expiration_date, @completed_with, @program_service_id,
    @status_reason, @content, @inserted_at, @inserted_by, @updated_at, @updated_by)
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
-- Excludes the licences that are about to be replaced from the rule of one active additional licence of each type, which would otherwise refuse an
-- exchange row by row. Runs for all licences of a file before the first one is replaced, and after LockLegalEntitiesOfBundle.
-- Locks: the rows, FOR NO KEY UPDATE; no command decides on them now, their legal entities are held.
-- Index: licenses_pkey.
-- Refusals: none.
UPDATE prm.licenses SET is_active = false WHERE id = ANY (@ids::uuid[]) AND is_active AND NOT is_primary;

-- name: StartBundle :one
-- The moment that is stored in rows of the bundle that name none.
-- Locks: none.
-- Index: none.
-- Refusals: none.
SELECT ops.instant(sqlc.narg('as_of'))::timestamptz AS moment;
