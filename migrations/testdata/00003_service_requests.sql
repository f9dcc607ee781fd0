-- Service requests of one patient at version 3, the newest first in lists: every element set; as few as may be; one held and one free,
-- which jobs of the next version wait for.
INSERT INTO medical_events.service_requests (id, requisition, patient_id, status, program_id, program_processing_status, used_by_legal_entity_id, used_by_employee_id,
    used_by_division_id, category, code_id, requester_legal_entity_id, expiration_date, completed_with, program_service_id, status_reason, content,
    inserted_at, inserted_by, updated_at, updated_by) VALUES
    ('5e000000-0000-4000-8000-000000000001', 'R-1', '9a000000-0000-4000-8000-000000000001', 'completed', '9e000000-0000-4000-8000-000000000001', 'completed',
        '1e000000-0000-4000-8000-000000000001', 'e1000000-0000-4000-8000-000000000001', 'd1000000-0000-4000-8000-000000000001', 'counselling',
        'c0000000-0000-4000-8000-000000000001', '1e000000-0000-4000-8000-000000000002', '2099-01-02 03:04:05Z',
        '{"type": "procedure", "id": "9c000000-0000-4000-8000-000000000001"}', '95000000-0000-4000-8000-000000000001',
        '{"coding": [{"system": "eHealth/service_request_complete_reasons", "code": "default"}], "text": "done"}',
        '{"intent": "order", "priority": "urgent", "note": "нотатка", "quantity": {"value": 3, "unit": "piece"}}',
        '2021-02-03 04:05:09Z', '05e00000-0000-4000-8000-000000000001', '2022-03-04 05:06:07Z', '05e00000-0000-4000-8000-000000000002'),
    ('5e000000-0000-4000-8000-000000000002', 'R-2', '9a000000-0000-4000-8000-000000000001', 'active', NULL, NULL, NULL, NULL,
        NULL, 'imaging', NULL, NULL, '2099-01-02 03:04:05Z', NULL, NULL, NULL, '{}',
        '2021-02-03 04:05:08Z', '05e00000-0000-4000-8000-000000000001', '2022-03-04 05:06:07Z', '05e00000-0000-4000-8000-000000000002'),
    ('5e000000-0000-4000-8000-000000000003', 'R-1', '9a000000-0000-4000-8000-000000000001', 'active', '9e000000-0000-4000-8000-000000000001', 'in_queue',
        '1e000000-0000-4000-8000-000000000001', NULL, NULL, 'counselling', NULL, NULL, '2099-01-02 03:04:05Z', NULL, NULL, NULL, '{}',
        '2021-02-03 04:05:07Z', '05e00000-0000-4000-8000-000000000001', '2022-03-04 05:06:07Z', '05e00000-0000-4000-8000-000000000002'),
    ('5e000000-0000-4000-8000-000000000004', 'R-1', '9a000000-0000-4000-8000-000000000001', 'active', '9e000000-0000-4000-8000-000000000001', 'new',
        NULL, NULL, NULL, 'counselling', NULL, NULL, '2099-01-02 03:04:05Z', NULL, NULL, NULL, '{}',
        '2021-02-03 04:05:06Z', '05e00000-0000-4000-8000-000000000001', '2022-03-04 05:06:07Z', '05e00000-0000-4000-8000-000000000002');
INSERT INTO medical_events.service_request_history (service_request_id, status, program_processing_status, used_by_legal_entity_id, used_by_employee_id, status_reason,
    inserted_at, inserted_by) VALUES
    ('5e000000-0000-4000-8000-000000000001', 'active', NULL, NULL, NULL, NULL, '2021-02-03 04:05:09Z', '05e00000-0000-4000-8000-000000000001'),
    ('5e000000-0000-4000-8000-000000000001', NULL, 'in_queue', NULL, NULL, NULL, '2021-03-03 04:05:09Z', '05e00000-0000-4000-8000-000000000002'),
    ('5e000000-0000-4000-8000-000000000001', NULL, NULL, '1e000000-0000-4000-8000-000000000001', NULL, NULL, '2021-03-03 04:05:09Z', '05e00000-0000-4000-8000-000000000002'),
    ('5e000000-0000-4000-8000-000000000001', NULL, NULL, NULL, 'e1000000-0000-4000-8000-000000000001', NULL, '2021-03-03 04:05:09Z', '05e00000-0000-4000-8000-000000000002'),
    ('5e000000-0000-4000-8000-000000000001', 'completed', NULL, NULL, NULL,
        '{"coding": [{"system": "eHealth/service_request_complete_reasons", "code": "default"}], "text": "done"}', '2021-04-03 04:05:09Z', '05e00000-0000-4000-8000-000000000002');
