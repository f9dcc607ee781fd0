-- Undoes the changes of measurements. PostgreSQL carries out the statements of one message in one transaction.

CREATE TEMPORARY TABLE changed ON COMMIT DROP AS
SELECT DISTINCT h.service_request_id AS id
FROM medical_events.service_request_history h
WHERE h.sequence_number > (SELECT history FROM bench.marks);
UPDATE medical_events.service_requests s SET
    program_processing_status = CASE WHEN p.id IS NULL THEN 'new' ELSE 'in_queue' END,
    used_by_legal_entity_id = p.holder_id,
    used_by_employee_id = NULL,
    used_by_division_id = NULL
FROM changed c LEFT JOIN bench.pool p ON p.id = c.id
WHERE s.id = c.id;
DELETE FROM medical_events.service_request_history WHERE sequence_number > (SELECT history FROM bench.marks);
DELETE FROM ops.jobs WHERE sequence_number > (SELECT jobs FROM bench.marks);
DELETE FROM ops.events WHERE sequence_number > (SELECT events FROM bench.marks);
DELETE FROM ops.unpublished_events;
DELETE FROM ops.event_feed WHERE position > (SELECT feed FROM bench.marks);
DELETE FROM prm.licenses WHERE type LIKE 'BENCH\_%';
