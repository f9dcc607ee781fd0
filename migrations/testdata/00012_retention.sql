-- A feed of which nothing has been removed but its first place.
INSERT INTO ops.event_horizons (legal_entity_id, position) VALUES ('1e000000-0000-4000-8000-000000000002', 1);
