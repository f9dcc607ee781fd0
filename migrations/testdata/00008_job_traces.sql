-- A job at version 8 that was traced.
INSERT INTO ops.jobs (id, action, service_request_id, patient_id, client_id, user_id, body, request_digest, status, inserted_at, ended_at, trace_context) VALUES
    ('0b000000-0000-4000-8000-000000000005', 'process', '5e000000-0000-4000-8000-000000000001', '9a000000-0000-4000-8000-000000000001', '1e000000-0000-4000-8000-000000000001',
        '05e00000-0000-4000-8000-000000000002', '{}', sha256('5'), 'processed', '2022-01-01Z', '2022-01-02Z', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01');
