-- A key of a user, which another user of the client has too.
INSERT INTO ops.idempotency_records (client_id, key, user_key, request_digest, lease_id, locked_until) VALUES
    ('1e000000-0000-4000-8000-000000000001', 'shared', '05e00000-0000-4000-8000-000000000001 shared', sha256('a request'), '1ea50000-0000-4000-8000-000000000003', '2099-01-01Z'),
    ('1e000000-0000-4000-8000-000000000001', E'\x1f1', '05e00000-0000-4000-8000-000000000002 shared', sha256('another'), '1ea50000-0000-4000-8000-000000000004', '2099-01-01Z');
