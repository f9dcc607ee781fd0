-- Events at version 7, one of them published and one not yet; keys of requests that were answered and that were not.
INSERT INTO ops.events (id, entity_type, entity_id, properties, changed_by, event_time, legal_entity_ids) VALUES
    ('e0000000-0000-4000-8000-000000000002', 'License', '11000000-0000-4000-8000-000000000002', '{"status": {"old_value": null, "new_value": "active"}}',
        '05e00000-0000-4000-8000-000000000002', '2022-04-03 04:05:09Z', '{1e000000-0000-4000-8000-000000000001}');
INSERT INTO ops.event_feed (legal_entity_id, event_id) SELECT '1e000000-0000-4000-8000-000000000001', event_id FROM ops.unpublished_events;
DELETE FROM ops.unpublished_events;
INSERT INTO ops.events (id, entity_type, entity_id, properties, changed_by, event_time, legal_entity_ids) VALUES
    ('e0000000-0000-4000-8000-000000000003', 'ServiceRequest', '5e000000-0000-4000-8000-000000000001', '{"status": {"old_value": "active", "new_value": "completed"}}',
        '05e00000-0000-4000-8000-000000000002', '2022-05-03 04:05:09Z', '{1e000000-0000-4000-8000-000000000001,1e000000-0000-4000-8000-000000000002}');
INSERT INTO ops.idempotency_records (client_id, key, request_digest, lease_id, locked_until, code, header, body) VALUES
    ('1e000000-0000-4000-8000-000000000001', 'answered', sha256('a request'), '1ea50000-0000-4000-8000-000000000001', '2022-01-01Z', 201, '{"Location": ["/there"]}', '{"answer":1}'),
    ('1e000000-0000-4000-8000-000000000001', 'running', sha256('a request'), '1ea50000-0000-4000-8000-000000000002', '2099-01-01Z', NULL, NULL, NULL);
