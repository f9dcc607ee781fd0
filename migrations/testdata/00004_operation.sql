-- Access, jobs and events at version 4. Of each: what is in force, and what is no more.
INSERT INTO ops.access_tokens (token_hash, user_id, client_id, scopes, expires_at, inserted_at, revoked_at) VALUES
    (sha256('live token'), '05e00000-0000-4000-8000-000000000002', '1e000000-0000-4000-8000-000000000001',
        '{license:read,license:write,service_request:read,service_request:use,job:read,event:read}', '2099-01-01Z', '2022-01-01Z', NULL),
    (sha256('expired token'), '05e00000-0000-4000-8000-000000000002', '1e000000-0000-4000-8000-000000000001', '{license:read}', '2022-01-02Z', '2022-01-01Z', NULL),
    (sha256('revoked token'), '05e00000-0000-4000-8000-000000000002', '1e000000-0000-4000-8000-000000000001', '{license:read}', '2099-01-01Z', '2022-01-01Z', '2022-01-02Z');
INSERT INTO ops.api_keys (key_hash, name, inserted_at, revoked_at) VALUES
    (sha256('live key'), 'live', '2022-01-01Z', NULL),
    (sha256('revoked key'), 'revoked', '2022-01-01Z', '2022-01-02Z');
-- Two wait for a worker, one of them after it failed; two have ended.
INSERT INTO ops.jobs (id, action, service_request_id, patient_id, client_id, user_id, body, request_digest, status, refusal, attempts, not_before, inserted_at, ended_at) VALUES
    ('0b000000-0000-4000-8000-000000000001', 'use', '5e000000-0000-4000-8000-000000000001', '9a000000-0000-4000-8000-000000000001', '1e000000-0000-4000-8000-000000000001',
        '05e00000-0000-4000-8000-000000000002', '{"used_by_legal_entity": "1e000000-0000-4000-8000-000000000001"}', sha256('1'), 'processed', NULL, 0, NULL, '2021-03-03 04:05:08Z', '2021-03-03 04:05:09.5Z'),
    ('0b000000-0000-4000-8000-000000000002', 'use', '5e000000-0000-4000-8000-000000000001', '9a000000-0000-4000-8000-000000000001', '1e000000-0000-4000-8000-000000000001',
        '05e00000-0000-4000-8000-000000000002', '{"used_by_legal_entity": "1e000000-0000-4000-8000-000000000001"}', sha256('2'), 'failed', 'internal_error', 5, '2022-01-02Z', '2022-01-01Z', '2022-01-03Z'),
    ('0b000000-0000-4000-8000-000000000003', 'release', '5e000000-0000-4000-8000-000000000003', '9a000000-0000-4000-8000-000000000001', '1e000000-0000-4000-8000-000000000001',
        '05e00000-0000-4000-8000-000000000002', '{}', sha256('3'), 'pending', NULL, 0, NULL, '2022-01-01Z', NULL),
    ('0b000000-0000-4000-8000-000000000004', 'use', '5e000000-0000-4000-8000-000000000004', '9a000000-0000-4000-8000-000000000001', '1e000000-0000-4000-8000-000000000001',
        '05e00000-0000-4000-8000-000000000002', '{"used_by_legal_entity": "1e000000-0000-4000-8000-000000000001", "used_by_employee": "e1000000-0000-4000-8000-000000000001"}',
        sha256('4'), 'pending', NULL, 1, '2022-01-02Z', '2022-01-01Z', NULL);
INSERT INTO ops.events (id, event_type, entity_type, entity_id, properties, changed_by, event_time) VALUES
    ('e0000000-0000-4000-8000-000000000001', 'StatusChangeEvent', 'ServiceRequest', '5e000000-0000-4000-8000-000000000001',
        '{"status": {"old_value": "active", "new_value": "completed"}}', '05e00000-0000-4000-8000-000000000002', '2021-04-03 04:05:09Z');
