-- Rows that the paths of the benchmark need beside the population: more reserved service requests, room for licences, and marks that tell the rows of
-- measurements from all others. PostgreSQL carries out the statements of one message in one transaction. Names in braces stand for numbers.

SET LOCAL work_mem = '64MB';

CREATE OR REPLACE FUNCTION pg_temp.id(kind text, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (lpad(to_hex(n * 2654435761 % 4294967296), 8, '0') || kind || lpad(to_hex(n), 12, '0'))::uuid;
CREATE OR REPLACE FUNCTION pg_temp.caller(n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (n % {tokens} / 2) % {legal_entities_20} * 20 + 1 + n % {tokens} % 2;

CREATE SCHEMA bench;

-- The pool: new service requests that are made reserved, so that they can be released again and again.
CREATE TABLE bench.pool (id uuid PRIMARY KEY, k bigint NOT NULL, patient_id uuid NOT NULL, holder_id uuid NOT NULL, user_id uuid NOT NULL);
INSERT INTO bench.pool (id, k, patient_id, holder_id, user_id)
SELECT s.id, wanted.k, s.patient_id, pg_temp.id({legal_entity}, pg_temp.caller(wanted.n)), pg_temp.id({user}, 1 + (wanted.n - 1) % {tokens})
FROM (
    SELECT k, (({first_state} + k / {groups} - k % {groups}) % 100 + 100) % 100 * {groups} + k % {groups} + 1 AS n
    FROM generate_series(0, {states} * {groups} - 1) k
) AS wanted
JOIN medical_events.service_requests s ON s.id = pg_temp.id({service_request}, wanted.n)
WHERE s.status = 'active' AND s.program_processing_status = 'new';
UPDATE medical_events.service_requests s SET program_processing_status = 'in_queue', used_by_legal_entity_id = p.holder_id
FROM bench.pool p
WHERE s.id = p.id;

-- Types of licence that every clinic may have. No clinic has one yet.
INSERT INTO prm.dictionary_values (dictionary, code) SELECT 'LICENSE_TYPE', 'BENCH_' || n FROM generate_series(0, {types} - 1) n;
UPDATE prm.parameters SET value = value || (SELECT jsonb_agg('BENCH_' || n) FROM generate_series(0, {types} - 1) n)
WHERE name = 'LEGAL_ENTITY_OUTPATIENT_ADDITIONAL_LICENSE_TYPES';

CREATE TABLE bench.marks (jobs bigint NOT NULL, history bigint NOT NULL, events bigint NOT NULL, feed bigint NOT NULL);
INSERT INTO bench.marks SELECT
    (SELECT coalesce(max(sequence_number), 0) FROM ops.jobs),
    (SELECT coalesce(max(sequence_number), 0) FROM medical_events.service_request_history),
    (SELECT coalesce(max(sequence_number), 0) FROM ops.events),
    (SELECT coalesce(max(position), 0) FROM ops.event_feed);
