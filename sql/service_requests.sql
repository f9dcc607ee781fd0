-- Service requests: third in the lock order.
--
-- Every action has a ladder (Judge…) that takes any number of orders and answers each: '' or the code of the first rule that refuses. The ladder runs
-- at the request, without locks, and again in the job, under the locks of ClaimJobs. The effect (Complete…, Process…, Release…, Use…) runs in the
-- same transaction, and checks again the state on which the ladder has decided.

-- name: CompleteServiceRequests :execrows
-- The effect of complete: the status is completed, and so is the processing status if there is a programme. The holder stays. The changed elements
-- get histories, and there is one event. If fewer rows are updated than asked for, a state is not the one that was decided on, and the transaction
-- must not be committed.
-- Locks: the service requests, FOR NO KEY UPDATE; held since ClaimJobs or ClaimRepeatedJobs. New rows of histories, events and unpublished_events.
-- Index: service_requests_pkey.
-- Refusals: none; JudgeComplete has given them.
WITH wanted AS (
    SELECT
        unnest(@service_request_ids::uuid[]) AS service_request_id,
        unnest(@client_ids::uuid[]) AS client_id,
        unnest(@user_ids::uuid[]) AS user_id,
        unnest(@bodies::jsonb[]) AS body
), completed AS (
    UPDATE medical_events.service_requests s SET
        status = 'completed',
        program_processing_status = CASE WHEN s.program_id IS NOT NULL THEN 'completed' END,
        completed_with = wanted.body -> 'completed_with',
        program_service_id = (wanted.body ->> 'program_service')::uuid,
        status_reason = wanted.body -> 'status_reason',
        updated_at = statement_timestamp(),
        updated_by = wanted.user_id
    FROM wanted
    WHERE s.id = wanted.service_request_id
        AND s.status = 'active'
        AND (s.program_id IS NULL OR s.program_processing_status = 'in_progress' AND s.used_by_legal_entity_id = wanted.client_id)
    RETURNING s.id, s.program_processing_status, s.status_reason, s.updated_by, ARRAY[s.used_by_legal_entity_id, s.requester_legal_entity_id] AS concerned
), history AS (
    INSERT INTO medical_events.service_request_history (service_request_id, status, program_processing_status, status_reason, inserted_by)
    SELECT id, 'completed', NULL, status_reason, updated_by FROM completed
    UNION ALL
    SELECT id, NULL, program_processing_status, NULL, updated_by FROM completed WHERE program_processing_status IS NOT NULL
)
INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, legal_entity_ids)
SELECT
    'ServiceRequest',
    id,
    jsonb '{"status": {"old_value": "active", "new_value": "completed"}}'
        || CASE WHEN program_processing_status IS NULL THEN jsonb '{}'
            ELSE jsonb '{"program_processing_status": {"old_value": "in_progress", "new_value": "completed"}}' END,
    updated_by,
    concerned
FROM completed;

-- name: ExpireServiceRequests :one
-- Recalls a batch of the service requests that have expired and are not reserved, those that expired first in front, with history and event. Each
-- call starts behind the last service request of the call before, which that call has answered; no row: there is none behind it. Several runs may
-- work at once, and any number of times: a service request that another transaction holds is left to a later run, and one that another transaction
-- has recalled is no longer active. The processing status stays. The update finds its rows by an array of ids: with a join, stale statistics could
-- lead to a plan that reads all expired service requests once for each row.
-- Locks: the service requests, FOR NO KEY UPDATE; those that others hold are skipped, so nothing waits here and the order does not matter.
-- Index: service_requests_active_expiration_date_id_idx, service_requests_pkey.
-- Refusals: none.
WITH held AS MATERIALIZED (
    SELECT s.id, s.expiration_date
    FROM medical_events.service_requests s
    WHERE s.status = 'active'
        AND s.expiration_date < ops.instant(sqlc.narg('as_of'))
        AND (s.expiration_date, s.id) > (@after_expiration_date::timestamptz, @after_id::uuid)
        AND (s.program_processing_status IS NULL OR s.program_processing_status = 'new')
    ORDER BY s.expiration_date, s.id
    LIMIT @batch_size
    FOR NO KEY UPDATE SKIP LOCKED
), recalled AS (
    UPDATE medical_events.service_requests s SET
        status = 'recalled',
        status_reason = '{"coding": [{"system": "eHealth/service_request_cancel_reasons", "code": "autoexpired"}]}',
        updated_at = statement_timestamp(),
        updated_by = @user_id
    WHERE s.id = ANY (ARRAY(SELECT held.id FROM held))
        AND s.status = 'active'
        AND (s.program_processing_status IS NULL OR s.program_processing_status = 'new')
    RETURNING s.id, s.status_reason, s.updated_by, ARRAY[s.used_by_legal_entity_id, s.requester_legal_entity_id] AS concerned
), history AS (
    INSERT INTO medical_events.service_request_history (service_request_id, status, status_reason, inserted_by)
    SELECT id, 'recalled', status_reason, updated_by FROM recalled
), event AS (
    INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, legal_entity_ids)
    SELECT 'ServiceRequest', id, '{"status": {"old_value": "active", "new_value": "recalled"}}', updated_by, concerned
    FROM recalled
)
SELECT (SELECT count(*) FROM recalled) AS recalled, last.expiration_date, last.id
FROM held last
ORDER BY last.expiration_date DESC, last.id DESC
LIMIT 1;

-- name: FindExpiredServiceRequest :one
-- The service request that ExpireServiceRequests would recall next behind a place, for the log: the recall of this service request alone has failed.
-- No row: there is none, or another transaction holds it.
-- Locks: the service request, FOR NO KEY UPDATE; those that others hold are skipped, as ExpireServiceRequests skips them.
-- Index: service_requests_active_expiration_date_id_idx.
-- Refusals: none.
SELECT s.id, s.expiration_date
FROM medical_events.service_requests s
WHERE s.status = 'active'
    AND s.expiration_date < ops.instant(sqlc.narg('as_of'))
    AND (s.expiration_date, s.id) > (@after_expiration_date::timestamptz, @after_id::uuid)
    AND (s.program_processing_status IS NULL OR s.program_processing_status = 'new')
ORDER BY s.expiration_date, s.id
LIMIT 1
FOR NO KEY UPDATE SKIP LOCKED;

-- name: GetServiceRequest :one
-- One service request of a patient, with its histories of the same snapshot.
-- Locks: none.
-- Index: service_requests_pkey, service_request_history_service_request_id_idx.
-- Refusals: none; no row means that the patient has no such service request.
SELECT
    sqlc.embed(s),
    (
        SELECT coalesce(json_agg(json_build_object(
            'status', h.status,
            'program_processing_status', h.program_processing_status,
            'used_by_legal_entity', h.used_by_legal_entity_id,
            'used_by_employee', h.used_by_employee_id,
            'status_reason', h.status_reason,
            'inserted_at', h.inserted_at,
            'inserted_by', h.inserted_by
        ) ORDER BY h.sequence_number), '[]')
        FROM medical_events.service_request_history h
        WHERE h.service_request_id = s.id
    )::json AS history
FROM medical_events.service_requests s
WHERE s.id = @id AND s.patient_id = @patient_id;

-- name: JudgeComplete :many
-- The ladder of complete. Holder and processing status are checked only if there is a programme.
-- Locks: none of its own; in the job the rows of the service requests are held.
-- Index: service_requests_pkey, legal_entities_pkey, parameters_pkey, dictionary_values_pkey, dictionaries_pkey.
-- Refusals, in this order: legal_entity_not_allowed, service_request_not_found, status_invalid, held_by_another,
-- processing_status_invalid, program_service_missing, status_reason_unknown.
SELECT
    wanted.id::uuid AS id,
    s.patient_id,
    coalesce(CASE
        WHEN NOT EXISTS (
            SELECT FROM prm.legal_entities le JOIN prm.parameters p ON p.name = 'me_allowed_transactions_le_types'
            WHERE le.id = wanted.client_id AND le.status = 'ACTIVE' AND jsonb_typeof(p.value) = 'array' AND p.value ? le.type)
            THEN 'legal_entity_not_allowed'
        WHEN s.id IS NULL
            THEN 'service_request_not_found'
        WHEN s.status <> 'active'
            THEN 'status_invalid'
        WHEN s.program_id IS NOT NULL AND s.used_by_legal_entity_id IS DISTINCT FROM wanted.client_id
            THEN 'held_by_another'
        WHEN s.program_id IS NOT NULL AND s.program_processing_status IS DISTINCT FROM 'in_progress'
            THEN 'processing_status_invalid'
        WHEN wanted.body ? 'completed_with' AND NOT wanted.body ? 'program_service'
            THEN 'program_service_missing'
        WHEN wanted.body ? 'status_reason' AND NOT EXISTS (
            SELECT FROM prm.dictionary_values v JOIN prm.dictionaries d ON d.name = v.dictionary
            WHERE v.dictionary = 'eHealth/service_request_complete_reasons' AND v.is_active AND d.is_active
                AND v.code = wanted.body #>> '{status_reason,coding,0,code}')
            THEN 'status_reason_unknown'
    END, '')::text AS refusal
FROM (SELECT
    unnest(@ids::uuid[]) AS id,
    unnest(@service_request_ids::uuid[]) AS service_request_id,
    unnest(@client_ids::uuid[]) AS client_id,
    unnest(@bodies::jsonb[]) AS body
) AS wanted
LEFT JOIN medical_events.service_requests s ON s.id = wanted.service_request_id;

-- name: JudgeProcess :many
-- The ladder of process.
-- Locks: none of its own; in the job the rows of the service requests are held.
-- Index: service_requests_pkey, legal_entities_pkey, parameters_pkey.
-- Refusals, in this order: legal_entity_not_allowed, service_request_not_found, status_invalid, processing_status_invalid,
-- held_by_another.
SELECT
    wanted.id::uuid AS id,
    s.patient_id,
    coalesce(CASE
        WHEN NOT EXISTS (
            SELECT FROM prm.legal_entities le JOIN prm.parameters p ON p.name = 'me_allowed_transactions_le_types'
            WHERE le.id = wanted.client_id AND le.status = 'ACTIVE' AND jsonb_typeof(p.value) = 'array' AND p.value ? le.type)
            THEN 'legal_entity_not_allowed'
        WHEN s.id IS NULL
            THEN 'service_request_not_found'
        WHEN s.status <> 'active'
            THEN 'status_invalid'
        WHEN s.program_processing_status IS DISTINCT FROM 'in_queue'
            THEN 'processing_status_invalid'
        WHEN s.used_by_legal_entity_id IS DISTINCT FROM wanted.client_id
            THEN 'held_by_another'
    END, '')::text AS refusal
FROM (SELECT
    unnest(@ids::uuid[]) AS id,
    unnest(@service_request_ids::uuid[]) AS service_request_id,
    unnest(@client_ids::uuid[]) AS client_id
) AS wanted
LEFT JOIN medical_events.service_requests s ON s.id = wanted.service_request_id;

-- name: JudgeRelease :many
-- The ladder of release. Expiry and verification are not checked. The caller must be the holder, unless the parameter release_requires_holder is
-- false.
-- Locks: none of its own; in the job the rows of the service requests are held.
-- Index: service_requests_pkey, legal_entities_pkey, parameters_pkey.
-- Refusals, in this order: legal_entity_not_allowed, service_request_not_found, status_invalid, processing_status_invalid,
-- held_by_another.
SELECT
    wanted.id::uuid AS id,
    s.patient_id,
    coalesce(CASE
        WHEN NOT EXISTS (
            SELECT FROM prm.legal_entities le JOIN prm.parameters p ON p.name = 'me_allowed_transactions_le_types'
            WHERE le.id = wanted.client_id AND le.status = 'ACTIVE' AND jsonb_typeof(p.value) = 'array' AND p.value ? le.type)
            THEN 'legal_entity_not_allowed'
        WHEN s.id IS NULL
            THEN 'service_request_not_found'
        WHEN s.status <> 'active'
            THEN 'status_invalid'
        WHEN s.program_processing_status IS DISTINCT FROM 'in_queue'
            THEN 'processing_status_invalid'
        WHEN s.used_by_legal_entity_id IS DISTINCT FROM wanted.client_id
            AND NOT EXISTS (SELECT FROM prm.parameters p WHERE p.name = 'release_requires_holder' AND p.value = 'false')
            THEN 'held_by_another'
    END, '')::text AS refusal
FROM (SELECT
    unnest(@ids::uuid[]) AS id,
    unnest(@service_request_ids::uuid[]) AS service_request_id,
    unnest(@client_ids::uuid[]) AS client_id
) AS wanted
LEFT JOIN medical_events.service_requests s ON s.id = wanted.service_request_id;

-- name: JudgeUse :many
-- The ladder of use: may this legal entity reserve this service request, for this employee, at this division?
-- Locks: none of its own; in the job the rows of the service requests are held.
-- Index: service_requests_pkey, legal_entities_pkey, parameters_pkey, employees_pkey, divisions_pkey.
-- Refusals, in this order: legal_entity_not_allowed, service_request_not_found, program_missing, service_request_expired,
-- service_request_inactive, already_used, already_completed, employee_not_own, employee_type_invalid, holder_not_own,
-- division_missing_for_hospitalization, division_missing_for_transfer_of_care, division_not_own.
SELECT
    wanted.id::uuid AS id,
    s.patient_id,
    coalesce(CASE
        WHEN NOT EXISTS (
            SELECT FROM prm.legal_entities le JOIN prm.parameters p ON p.name = 'me_allowed_transactions_le_types'
            WHERE le.id = wanted.client_id AND le.status = 'ACTIVE' AND jsonb_typeof(p.value) = 'array' AND p.value ? le.type)
            THEN 'legal_entity_not_allowed'
        WHEN s.id IS NULL
            THEN 'service_request_not_found'
        WHEN s.program_id IS NULL
            THEN 'program_missing'
        WHEN s.expiration_date < ops.instant(sqlc.narg('as_of'))
            THEN 'service_request_expired'
        WHEN s.status <> 'active'
            THEN 'service_request_inactive'
        WHEN s.used_by_legal_entity_id IS NOT NULL
            THEN 'already_used'
        WHEN s.program_processing_status = 'completed'
            THEN 'already_completed'
        WHEN wanted.body ? 'used_by_employee' AND (e.id IS NULL OR e.legal_entity_id <> wanted.client_id OR e.status <> 'APPROVED')
            THEN 'employee_not_own'
        WHEN wanted.body ? 'used_by_employee' AND NOT (
            e.employee_type IN ('DOCTOR', 'SPECIALIST')
            OR e.employee_type IN ('ASSISTANT', 'LABORANT')
                AND s.category IN ('laboratory_procedure', 'diagnostic_procedure', 'procedure'))
            THEN 'employee_type_invalid'
        WHEN (wanted.body ->> 'used_by_legal_entity')::uuid IS DISTINCT FROM wanted.client_id
            THEN 'holder_not_own'
        WHEN s.category = 'hospitalization' AND NOT wanted.body ? 'used_by_division'
            THEN 'division_missing_for_hospitalization'
        WHEN s.category = 'transfer_of_care' AND NOT wanted.body ? 'used_by_division'
            THEN 'division_missing_for_transfer_of_care'
        WHEN s.category = 'hospitalization' AND d.legal_entity_id IS DISTINCT FROM wanted.client_id
            THEN 'division_not_own'
    END, '')::text AS refusal
FROM (SELECT
    unnest(@ids::uuid[]) AS id,
    unnest(@service_request_ids::uuid[]) AS service_request_id,
    unnest(@client_ids::uuid[]) AS client_id,
    unnest(@bodies::jsonb[]) AS body
) AS wanted
LEFT JOIN medical_events.service_requests s ON s.id = wanted.service_request_id
LEFT JOIN prm.employees e ON e.id = (wanted.body ->> 'used_by_employee')::uuid
LEFT JOIN prm.divisions d ON d.id = (wanted.body ->> 'used_by_division')::uuid;

-- name: ListServiceRequestsByRequisition :many
-- A page of the service requests of a requisition that have a status, newest first, each with its histories, all of one snapshot. Each row has the
-- number of service requests on all pages.
-- Locks: none.
-- Index: service_requests_requisition_inserted_at_id_idx, service_requests_pkey,
-- service_request_history_service_request_id_idx.
-- Refusals: none.
SELECT
    sqlc.embed(s),
    (
        SELECT coalesce(json_agg(json_build_object(
            'status', h.status,
            'program_processing_status', h.program_processing_status,
            'used_by_legal_entity', h.used_by_legal_entity_id,
            'used_by_employee', h.used_by_employee_id,
            'status_reason', h.status_reason,
            'inserted_at', h.inserted_at,
            'inserted_by', h.inserted_by
        ) ORDER BY h.sequence_number), '[]')
        FROM medical_events.service_request_history h
        WHERE h.service_request_id = s.id
    )::json AS history,
    page.total_entries
FROM (
    SELECT matching.id, count(*) OVER () AS total_entries
    FROM medical_events.service_requests matching
    WHERE matching.requisition = @requisition AND matching.status = @status
    ORDER BY matching.inserted_at DESC, matching.id DESC
    LIMIT @page_size::bigint OFFSET @page_offset::bigint
) AS page
JOIN medical_events.service_requests s ON s.id = page.id
ORDER BY s.inserted_at DESC, s.id DESC;

-- name: ListServiceRequestsOfPatient :many
-- A page of the service requests of a patient, newest first, each with its histories, all of one snapshot. Each row has the number of service
-- requests on all pages. A filter that is null selects all.
-- Locks: none.
-- Index: service_requests_patient_id_inserted_at_id_idx, service_requests_pkey,
-- service_request_history_service_request_id_idx.
-- Refusals: none.
SELECT
    sqlc.embed(s),
    (
        SELECT coalesce(json_agg(json_build_object(
            'status', h.status,
            'program_processing_status', h.program_processing_status,
            'used_by_legal_entity', h.used_by_legal_entity_id,
            'used_by_employee', h.used_by_employee_id,
            'status_reason', h.status_reason,
            'inserted_at', h.inserted_at,
            'inserted_by', h.inserted_by
        ) ORDER BY h.sequence_number), '[]')
        FROM medical_events.service_request_history h
        WHERE h.service_request_id = s.id
    )::json AS history,
    page.total_entries
FROM (
    SELECT matching.id, count(*) OVER () AS total_entries
    FROM medical_events.service_requests matching
    WHERE matching.patient_id = @patient_id
        AND (sqlc.narg('status')::text IS NULL OR matching.status = sqlc.narg('status'))
        AND (sqlc.narg('requester_legal_entity_id')::uuid IS NULL OR matching.requester_legal_entity_id = sqlc.narg('requester_legal_entity_id'))
        AND (sqlc.narg('used_by_legal_entity_id')::uuid IS NULL OR matching.used_by_legal_entity_id = sqlc.narg('used_by_legal_entity_id'))
        AND (sqlc.narg('code_id')::uuid IS NULL OR matching.code_id = sqlc.narg('code_id'))
    ORDER BY matching.inserted_at DESC, matching.id DESC
    LIMIT @page_size::bigint OFFSET @page_offset::bigint
) AS page
JOIN medical_events.service_requests s ON s.id = page.id
ORDER BY s.inserted_at DESC, s.id DESC;

-- name: ProcessServiceRequests :execrows
-- The effect of process: the processing status is in_progress, with history and event. If fewer rows are updated than asked for, a state is not the
-- one that was decided on, and the transaction must not be committed.
-- Locks: the service requests, FOR NO KEY UPDATE; held since ClaimJobs or ClaimRepeatedJobs. New rows of histories, events and unpublished_events.
-- Index: service_requests_pkey.
-- Refusals: none; JudgeProcess has given them.
WITH wanted AS (
    SELECT
        unnest(@service_request_ids::uuid[]) AS service_request_id,
        unnest(@client_ids::uuid[]) AS client_id,
        unnest(@user_ids::uuid[]) AS user_id
), processed AS (
    UPDATE medical_events.service_requests s SET
        program_processing_status = 'in_progress',
        updated_at = statement_timestamp(),
        updated_by = wanted.user_id
    FROM wanted
    WHERE s.id = wanted.service_request_id
        AND s.status = 'active'
        AND s.program_processing_status = 'in_queue'
        AND s.used_by_legal_entity_id = wanted.client_id
    RETURNING s.id, s.updated_by, ARRAY[s.used_by_legal_entity_id, s.requester_legal_entity_id] AS concerned
), history AS (
    INSERT INTO medical_events.service_request_history (service_request_id, program_processing_status, inserted_by)
    SELECT id, 'in_progress', updated_by FROM processed
)
INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, legal_entity_ids)
SELECT 'ServiceRequest', id, '{"program_processing_status": {"old_value": "in_queue", "new_value": "in_progress"}}', updated_by, concerned
FROM processed;

-- name: ReleaseServiceRequests :execrows
-- The effect of release: the reservation is removed, and the processing status is new again, with history and event. If fewer rows are updated than
-- asked for, a state is not the one that was decided on, and the transaction must not be committed.
-- Locks: the service requests, FOR NO KEY UPDATE; held since ClaimJobs or ClaimRepeatedJobs. New rows of histories, events and unpublished_events.
-- Index: service_requests_pkey.
-- Refusals: none; JudgeRelease has given them.
WITH wanted AS (
    SELECT s.id, s.used_by_legal_entity_id AS holder_id, asked.user_id
    FROM (SELECT unnest(@service_request_ids::uuid[]) AS service_request_id, unnest(@user_ids::uuid[]) AS user_id) AS asked
    JOIN medical_events.service_requests s ON s.id = asked.service_request_id
), released AS (
    UPDATE medical_events.service_requests s SET
        used_by_legal_entity_id = NULL,
        used_by_employee_id = NULL,
        used_by_division_id = NULL,
        program_processing_status = 'new',
        updated_at = statement_timestamp(),
        updated_by = wanted.user_id
    FROM wanted
    WHERE s.id = wanted.id AND s.status = 'active' AND s.program_processing_status = 'in_queue'
        AND s.used_by_legal_entity_id IS NOT DISTINCT FROM wanted.holder_id
    RETURNING s.id, s.updated_by, ARRAY[wanted.holder_id, s.requester_legal_entity_id] AS concerned
), history AS (
    INSERT INTO medical_events.service_request_history (service_request_id, program_processing_status, inserted_by)
    SELECT id, 'new', updated_by FROM released
)
INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, legal_entity_ids)
SELECT 'ServiceRequest', id, '{"program_processing_status": {"old_value": "in_queue", "new_value": "new"}}', updated_by, concerned
FROM released;

-- name: UseServiceRequests :execrows
-- The effect of use: the reservation is the caller's, and the processing status is in_queue, with three histories and the event. If fewer rows are
-- updated than asked for, a state is not the one that was decided on, and the transaction must not be committed.
-- Locks: the service requests, FOR NO KEY UPDATE; held since ClaimJobs or ClaimRepeatedJobs. New rows of histories, events and unpublished_events.
-- Index: service_requests_pkey.
-- Refusals: none; JudgeUse has given them.
WITH wanted AS (
    SELECT s.id, s.program_processing_status AS old_status, asked.user_id, asked.body
    FROM (SELECT
        unnest(@service_request_ids::uuid[]) AS service_request_id,
        unnest(@user_ids::uuid[]) AS user_id,
        unnest(@bodies::jsonb[]) AS body
    ) AS asked
    JOIN medical_events.service_requests s ON s.id = asked.service_request_id
), used AS (
    UPDATE medical_events.service_requests s SET
        used_by_legal_entity_id = (wanted.body ->> 'used_by_legal_entity')::uuid,
        used_by_employee_id = (wanted.body ->> 'used_by_employee')::uuid,
        used_by_division_id = (wanted.body ->> 'used_by_division')::uuid,
        program_processing_status = 'in_queue',
        updated_at = statement_timestamp(),
        updated_by = wanted.user_id
    FROM wanted
    WHERE s.id = wanted.id
        AND s.status = 'active'
        AND s.program_id IS NOT NULL
        AND s.used_by_legal_entity_id IS NULL
        AND s.program_processing_status IS NOT DISTINCT FROM wanted.old_status
        AND (wanted.old_status IS NULL OR wanted.old_status = 'new')
    RETURNING s.id, s.used_by_legal_entity_id, s.used_by_employee_id, s.requester_legal_entity_id, s.updated_by, wanted.old_status
), history AS (
    INSERT INTO medical_events.service_request_history
        (service_request_id, program_processing_status, used_by_legal_entity_id, used_by_employee_id, inserted_by)
    SELECT id, 'in_queue', NULL::uuid, NULL::uuid, updated_by FROM used
    UNION ALL
    SELECT id, NULL, used_by_legal_entity_id, NULL, updated_by FROM used
    UNION ALL
    SELECT id, NULL, NULL, used_by_employee_id, updated_by FROM used WHERE used_by_employee_id IS NOT NULL
)
INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, legal_entity_ids)
SELECT
    'ServiceRequest',
    id,
    jsonb_build_object('program_processing_status', jsonb_build_object('old_value', old_status, 'new_value', 'in_queue')),
    updated_by,
    ARRAY[used_by_legal_entity_id, requester_legal_entity_id]
FROM used;
