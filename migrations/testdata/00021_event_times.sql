-- A place that tells the moment of its event.
INSERT INTO ops.event_feed (legal_entity_id, event_id, event_time)
SELECT '1e000000-0000-4000-8000-000000000002', e.id, e.event_time FROM ops.events e LIMIT 1;
