-- What reiestr_readonly sees, an end to what everybody may do by default, and what the version of the schema is compared with.
-- Live: grants and a comment only; no lock on any table that readers or writers would meet.
--
-- Column by column, so that a column of a later migration is not seen before somebody has decided on it; views would be a second
-- schema to keep, and would see with the owner's eyes. A test knows every column there is and fails on one it does not know.
--
-- Seen: ids of things and of legal entities, kinds, states, moments, counters. Not seen:
--
--   secrets   hashes of tokens and api keys, idempotency keys with digests, leases and answers, digests of requests; a requisition,
--             with which any clinic finds the referral
--   persons   ids of patients, users and employees; names and EDRPOU codes, for a legal entity may be one person under her name and
--             her tax number; what was diagnosed, done and paid for (code, programme service, what completed it, reasons, content)
--   texts     whatever callers write in their own words, and bodies as a whole: nobody knows what they hold
--
-- Nothing here filters rows, so nothing leaks through a plan or a function; statistics (pg_stats) show columns that may be read only.

-- +goose Up
SET LOCAL lock_timeout = '2s';

GRANT USAGE ON SCHEMA prm, medical_events, ops TO reiestr_readonly;
GRANT SELECT (name, is_active) ON prm.dictionaries TO reiestr_readonly;
GRANT SELECT (dictionary, code, description, is_active) ON prm.dictionary_values TO reiestr_readonly;
GRANT SELECT (name, value) ON prm.parameters TO reiestr_readonly;
GRANT SELECT (id, type, status, nhs_verified, inserted_at, updated_at) ON prm.legal_entities TO reiestr_readonly;
GRANT SELECT (id, legal_entity_id, status, inserted_at, updated_at) ON prm.divisions TO reiestr_readonly;
GRANT SELECT (legal_entity_id, employee_type, status, inserted_at, updated_at) ON prm.employees TO reiestr_readonly;
GRANT SELECT (id, legal_entity_id, type, is_active, is_primary, issued_date, issuer_status, expiry_date, active_from_date, inserted_at, updated_at)
    ON prm.licenses TO reiestr_readonly;
GRANT SELECT (id, status, program_id, program_processing_status, used_by_legal_entity_id, used_by_division_id, category,
    requester_legal_entity_id, expiration_date, inserted_at, updated_at) ON medical_events.service_requests TO reiestr_readonly;
GRANT SELECT (sequence_number, service_request_id, status, program_processing_status, used_by_legal_entity_id, inserted_at)
    ON medical_events.service_request_history TO reiestr_readonly;
GRANT SELECT (is_only_row, epoch) ON ops.access_epoch TO reiestr_readonly;
GRANT SELECT (client_id, scopes, expires_at, inserted_at, revoked_at) ON ops.access_tokens TO reiestr_readonly;
GRANT SELECT (name, inserted_at, revoked_at) ON ops.api_keys TO reiestr_readonly;
GRANT SELECT (id, sequence_number, action, service_request_id, client_id, status, refusal, attempts, not_before, inserted_at, ended_at, trace_context)
    ON ops.jobs TO reiestr_readonly;
GRANT SELECT (id, sequence_number, event_type, entity_type, entity_id, event_time, legal_entity_ids) ON ops.events TO reiestr_readonly;
GRANT SELECT (sequence_number, event_id) ON ops.unpublished_events TO reiestr_readonly;
GRANT SELECT (legal_entity_id, position, event_id) ON ops.event_feed TO reiestr_readonly;
GRANT SELECT (legal_entity_id, position) ON ops.event_horizons TO reiestr_readonly;
GRANT SELECT (client_id, locked_until, inserted_at, code) ON ops.idempotency_records TO reiestr_readonly;
GRANT SELECT (id, version_id, is_applied, tstamp) ON ops.schema_versions TO reiestr_readonly;

-- PostgreSQL lets everybody call a new function. From here on whoever is to call one is named; triggers need no right to their function.
-- Allowed: functions alone, of which the next statements but one name those that somebody needs.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA prm, medical_events, ops FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ops.instant(timestamptz), ops.business_date(timestamptz, text), ops.schema_version() TO reiestr_app;
GRANT EXECUTE ON FUNCTION ops.schema_version() TO reiestr_readonly;

-- A program takes a newer schema than its own, too (docs/decisions/0016-expand-and-contract.md).
COMMENT ON FUNCTION ops.schema_version() IS 'Number of the newest migration applied; a process is ready only if it is that of its program or a newer one.';

-- +goose Down
SET LOCAL lock_timeout = '2s';
COMMENT ON FUNCTION ops.schema_version() IS 'Number of the newest migration applied; a process is ready only if it is the one it needs.';
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
GRANT EXECUTE ON FUNCTION ops.instant(timestamptz), ops.business_date(timestamptz, text), ops.schema_version(), ops.queue_events(),
    ops.refuse_leaving_ended_job(), medical_events.refuse_leaving_final_status() TO PUBLIC;
REVOKE EXECUTE ON FUNCTION ops.instant(timestamptz), ops.business_date(timestamptz, text), ops.schema_version() FROM reiestr_app, reiestr_readonly;
-- Of a table this takes the rights to its columns too.
REVOKE ALL ON ALL TABLES IN SCHEMA prm, medical_events, ops FROM reiestr_readonly;
REVOKE USAGE ON SCHEMA prm, medical_events, ops FROM reiestr_readonly;
