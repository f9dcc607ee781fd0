-- An epoch at version 10: access has changed before.
INSERT INTO ops.access_epoch (epoch) VALUES (7) ON CONFLICT (is_only_row) DO UPDATE SET epoch = excluded.epoch;
