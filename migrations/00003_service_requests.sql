-- Service requests and the append-only history of what happened to them.
-- Live: creates only; no lock on any existing table.

-- +goose Up
SET LOCAL lock_timeout = '2s';

CREATE TABLE medical_events.service_requests (
    id                        uuid        NOT NULL CONSTRAINT service_requests_pkey PRIMARY KEY,
    requisition               text        NOT NULL,
    patient_id                uuid        NOT NULL,
    status                    text        NOT NULL,
    program_id                uuid,
    program_processing_status text,
    used_by_legal_entity_id   uuid,
    used_by_employee_id       uuid,
    used_by_division_id       uuid,
    category                  text        NOT NULL,
    code_id                   uuid,
    requester_legal_entity_id uuid,
    expiration_date           timestamptz NOT NULL,
    completed_with            jsonb,
    program_service_id        uuid,
    status_reason             jsonb,
    content                   jsonb       NOT NULL DEFAULT '{}',
    inserted_at               timestamptz NOT NULL DEFAULT statement_timestamp(),
    inserted_by               uuid        NOT NULL,
    updated_at                timestamptz NOT NULL DEFAULT statement_timestamp(),
    updated_by                uuid        NOT NULL,
    CONSTRAINT service_requests_status_known
        CHECK (status IN ('active', 'completed', 'recalled', 'entered_in_error')),
    CONSTRAINT service_requests_processing_status_known
        CHECK (program_processing_status IN ('new', 'in_queue', 'in_progress', 'completed')),
    CONSTRAINT service_requests_processing_status_needs_program
        CHECK (program_processing_status IS NULL OR program_id IS NOT NULL),
    CONSTRAINT service_requests_reserved_has_holder
        CHECK (program_processing_status IS NULL OR program_processing_status NOT IN ('in_queue', 'in_progress') OR used_by_legal_entity_id IS NOT NULL),
    CONSTRAINT service_requests_new_has_no_holder
        CHECK (program_processing_status IS DISTINCT FROM 'new' OR used_by_legal_entity_id IS NULL),
    CONSTRAINT service_requests_employee_and_division_with_holder
        CHECK (used_by_legal_entity_id IS NOT NULL OR used_by_employee_id IS NULL AND used_by_division_id IS NULL),
    CONSTRAINT service_requests_content_is_object
        CHECK (jsonb_typeof(content) = 'object')
-- Every state change rewrites the row: room on the page keeps the new version beside the old one, so that no index is touched
-- (HOT). For the same reason no index below holds a column that use, release, process or complete change.
) WITH (fillfactor = 80);
CREATE INDEX service_requests_requisition_inserted_at_id_idx ON medical_events.service_requests (requisition, inserted_at DESC, id DESC);
CREATE INDEX service_requests_patient_id_inserted_at_id_idx ON medical_events.service_requests (patient_id, inserted_at DESC, id DESC);
COMMENT ON TABLE medical_events.service_requests IS
    'Electronic referrals. Third in the lock order: whoever decides on one holds its row FOR NO KEY UPDATE, several in order of id.';
COMMENT ON COLUMN medical_events.service_requests.id IS 'Random id.';
COMMENT ON COLUMN medical_events.service_requests.requisition IS 'Number the patient carries; shared by the service requests of one referral.';
COMMENT ON COLUMN medical_events.service_requests.patient_id IS 'subject of the contract.';
COMMENT ON COLUMN medical_events.service_requests.status IS 'active, or final: completed, recalled, entered_in_error.';
COMMENT ON COLUMN medical_events.service_requests.program_id IS 'Medical programme that pays; null: none, and then there is no processing status.';
COMMENT ON COLUMN medical_events.service_requests.program_processing_status IS 'new -use-> in_queue -process-> in_progress -complete-> completed; in_queue -release-> new.';
COMMENT ON COLUMN medical_events.service_requests.used_by_legal_entity_id IS 'Holder of the reservation: a legal entity of the registry; no foreign key, it lives in another database of the domain.';
COMMENT ON COLUMN medical_events.service_requests.used_by_employee_id IS 'Employee it is reserved for, where named.';
COMMENT ON COLUMN medical_events.service_requests.used_by_division_id IS 'Division it is reserved for, where named.';
COMMENT ON COLUMN medical_events.service_requests.category IS 'Dictionary eHealth/SNOMED/service_request_categories; decides who may be named as employee and whether a division must be.';
COMMENT ON COLUMN medical_events.service_requests.code_id IS 'Id of the service or service group of content.code; lists filter by it.';
COMMENT ON COLUMN medical_events.service_requests.requester_legal_entity_id IS 'Legal entity that wrote the referral; lists filter by it.';
COMMENT ON COLUMN medical_events.service_requests.expiration_date IS 'Last moment at which it can be used.';
COMMENT ON COLUMN medical_events.service_requests.completed_with IS 'Reference {type, id} to the encounter, diagnostic report or procedure that completed it.';
COMMENT ON COLUMN medical_events.service_requests.program_service_id IS 'Service of the programme that was rendered.';
COMMENT ON COLUMN medical_events.service_requests.status_reason IS 'CodeableConcept: why the status is what it is.';
COMMENT ON COLUMN medical_events.service_requests.content IS
    'What the requester wrote and no rule reads, in the shape of the contract: intent, priority, code, context, occurrence_*, requester_employee, reason_reference, supporting_info, permitted_resources, note, patient_instruction, explanatory_letter, quantity. Written once.';
COMMENT ON COLUMN medical_events.service_requests.inserted_at IS 'When it was written; lists are ordered by it.';
COMMENT ON COLUMN medical_events.service_requests.inserted_by IS 'User who wrote it.';
COMMENT ON COLUMN medical_events.service_requests.updated_at IS 'When it last changed.';
COMMENT ON COLUMN medical_events.service_requests.updated_by IS 'User who last changed it.';
COMMENT ON CONSTRAINT service_requests_pkey ON medical_events.service_requests IS 'Serves every look-up and lock of one service request.';
COMMENT ON CONSTRAINT service_requests_status_known ON medical_events.service_requests IS 'Rules decide on these four and no other.';
COMMENT ON CONSTRAINT service_requests_processing_status_known ON medical_events.service_requests IS 'Rules decide on these four, or null: never reserved, or without a programme.';
COMMENT ON CONSTRAINT service_requests_processing_status_needs_program ON medical_events.service_requests IS 'Only a programme processes.';
COMMENT ON CONSTRAINT service_requests_reserved_has_holder ON medical_events.service_requests IS 'A reservation without a holder could never be released, processed or completed.';
COMMENT ON CONSTRAINT service_requests_new_has_no_holder ON medical_events.service_requests IS 'What is new is free; with a holder it could never be used.';
COMMENT ON CONSTRAINT service_requests_employee_and_division_with_holder ON medical_events.service_requests IS 'An employee and a division are those of the holder.';
COMMENT ON CONSTRAINT service_requests_content_is_object ON medical_events.service_requests IS 'Answers take the elements of it by name.';
COMMENT ON INDEX medical_events.service_requests_requisition_inserted_at_id_idx IS 'Serves the search by requisition, newest first.';
COMMENT ON INDEX medical_events.service_requests_patient_id_inserted_at_id_idx IS 'Serves the list of one patient, newest first.';

-- +goose StatementBegin
CREATE FUNCTION medical_events.refuse_leaving_final_status() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = ''
AS $$
BEGIN
    RAISE EXCEPTION 'service request % is % for ever', OLD.id, OLD.status
        USING ERRCODE = 'check_violation', SCHEMA = 'medical_events', TABLE = 'service_requests', CONSTRAINT = 'service_requests_final_status_stays';
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION medical_events.refuse_leaving_final_status() IS 'Body of the trigger service_requests_final_status_stays.';

CREATE TRIGGER service_requests_final_status_stays
    BEFORE UPDATE OF status ON medical_events.service_requests
    FOR EACH ROW
    WHEN (OLD.status <> 'active' AND NEW.status <> OLD.status AND NOT pg_has_role('reiestr_owner', 'USAGE'))
    EXECUTE FUNCTION medical_events.refuse_leaving_final_status();
COMMENT ON TRIGGER service_requests_final_status_stays ON medical_events.service_requests IS
    'completed, recalled and entered_in_error are final for the service; the owner may still replace rows as a whole (fixture bundles).';

CREATE TABLE medical_events.service_request_history (
    sequence_number           bigint      NOT NULL GENERATED ALWAYS AS IDENTITY CONSTRAINT service_request_history_pkey PRIMARY KEY,
    service_request_id        uuid        NOT NULL,
    status                    text,
    program_processing_status text,
    used_by_legal_entity_id   uuid,
    used_by_employee_id       uuid,
    status_reason             jsonb,
    inserted_at               timestamptz NOT NULL DEFAULT statement_timestamp(),
    inserted_by               uuid        NOT NULL,
    CONSTRAINT service_request_history_service_request_id_fkey
        FOREIGN KEY (service_request_id) REFERENCES medical_events.service_requests (id) ON DELETE CASCADE,
    CONSTRAINT service_request_history_one_element
        CHECK (num_nonnulls(status, program_processing_status, used_by_legal_entity_id, used_by_employee_id) = 1)
);
CREATE INDEX service_request_history_service_request_id_idx
    ON medical_events.service_request_history (service_request_id, sequence_number);
COMMENT ON TABLE medical_events.service_request_history IS
    'The four histories of a service request in one append-only list: each row is one new value of one element. The service may only add.';
COMMENT ON COLUMN medical_events.service_request_history.sequence_number IS
    'Order of the rows of one service request: they are written under its row lock, so later is larger.';
COMMENT ON COLUMN medical_events.service_request_history.service_request_id IS 'The service request it belongs to.';
COMMENT ON COLUMN medical_events.service_request_history.status IS 'Item of status_history.';
COMMENT ON COLUMN medical_events.service_request_history.program_processing_status IS 'Item of program_processing_status_history.';
COMMENT ON COLUMN medical_events.service_request_history.used_by_legal_entity_id IS 'Item of used_by_legal_entity_history.';
COMMENT ON COLUMN medical_events.service_request_history.used_by_employee_id IS 'Item of used_by_employee_history.';
COMMENT ON COLUMN medical_events.service_request_history.status_reason IS 'CodeableConcept: why, where a reason was given.';
COMMENT ON COLUMN medical_events.service_request_history.inserted_at IS 'When the value was taken on.';
COMMENT ON COLUMN medical_events.service_request_history.inserted_by IS 'User on whose request.';
COMMENT ON CONSTRAINT service_request_history_pkey ON medical_events.service_request_history IS 'Each row has its place in the order.';
COMMENT ON CONSTRAINT service_request_history_service_request_id_fkey ON medical_events.service_request_history IS 'No history without its service request.';
COMMENT ON CONSTRAINT service_request_history_one_element ON medical_events.service_request_history IS 'A row tells of exactly one element.';
COMMENT ON INDEX medical_events.service_request_history_service_request_id_idx IS 'Serves the histories of one service request, oldest first.';

GRANT SELECT ON medical_events.service_requests TO reiestr_app;
GRANT UPDATE (status, program_processing_status, used_by_legal_entity_id, used_by_employee_id, used_by_division_id, updated_at, updated_by)
    ON medical_events.service_requests TO reiestr_app;
GRANT SELECT, INSERT ON medical_events.service_request_history TO reiestr_app;

-- +goose Down
SET LOCAL lock_timeout = '2s';
DROP TABLE medical_events.service_request_history;
DROP TABLE medical_events.service_requests;
DROP FUNCTION medical_events.refuse_leaving_final_status();
