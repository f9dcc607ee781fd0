-- A population for measurements and plans, computed from ordinals. population.go has the same formulas, and replaces names in braces by numbers of
-- the size and by middle parts of ids. All statements are one transaction.

SET LOCAL ROLE reiestr_owner;
SET LOCAL synchronous_commit = off;
SET LOCAL maintenance_work_mem = '256MB';
SET LOCAL work_mem = '64MB';
SET LOCAL jit = off;
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;

-- Indexes, and the constraints that need them, are made after the rows, as in a restore. They take half of the time.
CREATE TEMPORARY TABLE deferred ON COMMIT DROP AS
SELECT
    row_number() OVER (ORDER BY c.contype IS NOT DISTINCT FROM 'f', d.constraint_id, d.index_id) AS place,
    format(CASE WHEN c.oid IS NULL THEN 'DROP INDEX %2$s' ELSE 'ALTER TABLE %1$s DROP CONSTRAINT %3$I' END,
        t.oid::regclass, i.indexrelid::regclass, c.conname) AS removal,
    CASE WHEN c.oid IS NULL THEN pg_get_indexdef(i.indexrelid)
        ELSE format('ALTER TABLE %s ADD CONSTRAINT %I %s', t.oid::regclass, c.conname, pg_get_constraintdef(c.oid)) END AS creation,
    CASE WHEN c.oid IS NULL THEN format('COMMENT ON INDEX %s IS %L', i.indexrelid::regclass, obj_description(i.indexrelid, 'pg_class'))
        ELSE format('COMMENT ON CONSTRAINT %I ON %s IS %L', c.conname, t.oid::regclass, obj_description(c.oid, 'pg_constraint')) END AS comment
FROM pg_class t
JOIN (
    SELECT conrelid AS relation, oid AS constraint_id, NULL::oid AS index_id FROM pg_constraint WHERE contype IN ('p', 'u', 'f')
    UNION ALL
    SELECT indrelid, NULL, indexrelid FROM pg_index WHERE NOT EXISTS (SELECT FROM pg_constraint o WHERE o.conindid = indexrelid AND o.contype <> 'f')
) AS d ON d.relation = t.oid
LEFT JOIN pg_constraint c ON c.oid = d.constraint_id
LEFT JOIN pg_index i ON i.indexrelid = d.index_id
WHERE t.relkind = 'r' AND t.relnamespace IN ('prm'::regnamespace, 'medical_events'::regnamespace, 'ops'::regnamespace)
    AND t.oid NOT IN ('ops.schema_versions'::regclass, 'prm.dictionaries'::regclass, 'prm.dictionary_values'::regclass, 'prm.parameters'::regclass);

DO $$
DECLARE
    d record;
BEGIN
    FOR d IN SELECT removal FROM deferred ORDER BY place DESC LOOP EXECUTE d.removal; END LOOP;
END
$$;

-- The ids of the rows are UUIDs of version 4. Their first eight digits give no order, their last twelve digits are the ordinal.
CREATE OR REPLACE FUNCTION pg_temp.id(kind text, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (lpad(to_hex(n * 2654435761 % 4294967296), 8, '0') || kind || lpad(to_hex(n), 12, '0'))::uuid;

-- An active legal entity that treats patients. Of two neighbours the second one has additional licences.
CREATE OR REPLACE FUNCTION pg_temp.caller(n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (n % {tokens} / 2) % {legal_entities_20} * 20 + 1 + n % {tokens} % 2;

INSERT INTO prm.legal_entities (id, edrpou, name, type, status, nhs_verified, inserted_at, inserted_by, updated_at, updated_by)
SELECT
    pg_temp.id({legal_entity}, n),
    lpad(n::text, 8, '0'),
    'Заклад № ' || n,
    CASE WHEN n % 20 BETWEEN 1 AND 8 THEN 'OUTPATIENT' WHEN n % 20 BETWEEN 9 AND 15 THEN 'PRIMARY_CARE' WHEN n % 20 = 0 THEN 'EMERGENCY' ELSE 'PHARMACY' END,
    CASE WHEN n % 20 <> 5 THEN 'ACTIVE' ELSE (ARRAY['SUSPENDED', 'CLOSED', 'SUSPENDED', 'REORGANIZED'])[1 + n / 20 % 4] END,
    n % 3 = 0,
    now() - interval '5 years', pg_temp.id({user}, 0), now() - interval '5 years', pg_temp.id({user}, 0)
FROM generate_series(1, {legal_entities}::bigint) n;

INSERT INTO prm.divisions (id, legal_entity_id, name, status, inserted_at, inserted_by, updated_at, updated_by)
SELECT
    pg_temp.id({division}, n), pg_temp.id({legal_entity}, n), 'Відділення № ' || n, CASE WHEN n % 50 = 0 THEN 'INACTIVE' ELSE 'ACTIVE' END,
    now() - interval '4 years', pg_temp.id({user}, 0), now() - interval '4 years', pg_temp.id({user}, 0)
FROM generate_series(1, {legal_entities}::bigint) n;

INSERT INTO prm.employees (id, legal_entity_id, employee_type, status, inserted_at, inserted_by, updated_at, updated_by)
SELECT
    pg_temp.id({employee}, n), pg_temp.id({legal_entity}, (n + 1) / 2),
    CASE WHEN n % 2 = 1 THEN 'DOCTOR' ELSE (ARRAY['SPECIALIST', 'ASSISTANT', 'LABORANT', 'RECEPTIONIST'])[1 + n / 2 % 4] END,
    CASE WHEN n % 20 = 0 THEN 'DISMISSED' ELSE 'APPROVED' END,
    now() - interval '4 years', pg_temp.id({user}, 0), now() - interval '4 years', pg_temp.id({user}, 0)
FROM generate_series(1, 2 * {legal_entities}::bigint) n;

-- Every legal entity has a primary licence. Every second one has an active additional licence, and inactive ones of earlier times in turn.
INSERT INTO prm.licenses (
    id, legal_entity_id, type, is_active, is_primary, license_number, issued_by, issued_date, issuer_status, expiry_date, active_from_date,
    what_licensed, order_no, inserted_at, inserted_by, updated_at, updated_by)
SELECT
    pg_temp.id({license}, n),
    pg_temp.id({legal_entity}, CASE WHEN n <= {legal_entities} THEN n ELSE 2 * (1 + (n - 1) % ({legal_entities} / 2)) END),
    CASE WHEN n <= {legal_entities} THEN 'MSP' WHEN n % 4 = 0 AND n > {legal_entities} * 3 / 2 THEN 'PHARMACY' ELSE 'PHARMACY_DRUGS' END,
    n <= {legal_entities} * 3 / 2,
    n <= {legal_entities},
    'АБ ' || lpad(n::text, 9, '0'),
    'МОЗ України',
    current_date - 2000 + (n % 1000)::int,
    NULL,
    CASE WHEN n > {legal_entities} THEN current_date + 30 + (n % 2000)::int WHEN n % 3 = 0 THEN current_date + 365 END,
    current_date - 2000 + (n % 1000)::int,
    'Медична практика',
    'Наказ № ' || n % 5000,
    now() - interval '4 years' * (1 - n / {licenses}::float8), pg_temp.id({user}, 0),
    now() - interval '4 years' * (1 - n / {licenses}::float8), pg_temp.id({user}, 0)
FROM generate_series(1, {licenses}::bigint) n;

INSERT INTO ops.access_tokens (token_hash, user_id, client_id, scopes, expires_at, inserted_at)
SELECT
    sha256(convert_to('token' || n, 'UTF8')), pg_temp.id({user}, n), pg_temp.id({legal_entity}, pg_temp.caller(n)), {scopes}, now() + interval '10 years', now()
FROM generate_series(1, {tokens}::bigint) n;

INSERT INTO ops.api_keys (key_hash, name)
SELECT sha256(convert_to('api_key' || n, 'UTF8')), 'MIS ' || n FROM generate_series(1, 50) n;

-- The content that requesters write.
CREATE TEMPORARY TABLE written ON COMMIT DROP AS
SELECT
    n,
    (ARRAY['counselling', 'laboratory_procedure', 'diagnostic_procedure', 'imaging', 'procedure', 'hospitalization', 'transfer_of_care',
        'surgical_procedure', 'education', 'counselling'])[1 + n % 10] AS category,
    pg_temp.id({service}, n) AS code_id,
    jsonb_build_object(
        'intent', 'order',
        'priority', CASE WHEN n % 7 = 0 THEN 'urgent' ELSE 'routine' END,
        'note', 'Консультація № ' || n,
        'code', jsonb_build_object('identifier', jsonb_build_object(
            'type', jsonb '{"coding": [{"system": "eHealth/resources", "code": "service"}], "text": ""}', 'value', pg_temp.id({service}, n))),
        'requester_employee', jsonb_build_object('identifier', jsonb_build_object(
            'type', jsonb '{"coding": [{"system": "eHealth/resources", "code": "employee"}], "text": ""}', 'value', pg_temp.id({employee}, 1 + n)))
    ) AS content
FROM generate_series(0, 1999) n;
ANALYZE written;

-- place_in_group is the place of a service request in its group. A group has 42 patients with 1, 2, 5 or 20 service requests. In each hundredth group
-- one patient has all of them, with one requisition. In the first ten of these groups it is the same patient.
INSERT INTO medical_events.service_requests (
    id, requisition, patient_id, status, program_id, program_processing_status, used_by_legal_entity_id, used_by_employee_id,
    used_by_division_id, category, code_id, requester_legal_entity_id, expiration_date, completed_with, program_service_id, status_reason,
    content, inserted_at, inserted_by, updated_at, updated_by)
SELECT
    pg_temp.id({service_request}, n),
    to_char((group_number * 100 + CASE
        WHEN group_number % 100 = 0 THEN 0
        WHEN place_in_group < 80 THEN place_in_group
        ELSE place_in_group / 4 * 4 END) * 2654435761 % 10000000000000000, 'FM0000"-"0000"-"0000"-"0000'),
    pg_temp.id({patient}, CASE
        WHEN group_number < 10 THEN 0
        WHEN group_number % 100 = 0 THEN group_number * 100
        WHEN place_in_group < 20 THEN group_number * 100 + place_in_group
        WHEN place_in_group < 50 THEN group_number * 100 + place_in_group / 2 * 2
        WHEN place_in_group < 80 THEN group_number * 100 + place_in_group / 5 * 5
        ELSE group_number * 100 + 80 END),
    CASE WHEN state < 50 THEN 'active' WHEN state < 70 THEN 'completed' WHEN state < 98 THEN 'recalled' ELSE 'entered_in_error' END,
    CASE WHEN state NOT BETWEEN 36 AND 43 THEN pg_temp.id({program}, n % 7) END,
    CASE
        WHEN state BETWEEN 32 AND 43 THEN NULL
        WHEN state BETWEEN 44 AND 47 THEN 'in_queue'
        WHEN state BETWEEN 48 AND 49 THEN 'in_progress'
        WHEN state BETWEEN 50 AND 69 THEN 'completed'
        ELSE 'new' END,
    CASE WHEN state BETWEEN 44 AND 69 THEN pg_temp.id({legal_entity}, holder) END,
    CASE WHEN state BETWEEN 44 AND 69 THEN pg_temp.id({employee}, 2 * holder - 1) END,
    CASE WHEN state BETWEEN 44 AND 69 AND category IN ('hospitalization', 'transfer_of_care') THEN pg_temp.id({division}, holder) END,
    category,
    code_id,
    pg_temp.id({legal_entity}, 1 + n * 7919 % {legal_entities}),
    CASE
        WHEN state IN (30, 31) THEN now() - interval '1 minute' * (1 + n % 43200)
        WHEN state < 50 THEN now() + interval '1 minute' * (1440 + n % 524160)
        ELSE inserted_at + interval '1 year' END,
    NULL,
    NULL,
    CASE WHEN state BETWEEN 70 AND 97 THEN jsonb '{"coding": [{"system": "eHealth/service_request_cancel_reasons", "code": "autoexpired"}]}' END,
    content,
    inserted_at, nobody, inserted_at, nobody
FROM (
    SELECT
        n,
        group_number,
        place_in_group,
        (group_number + place_in_group) % 100 AS state,
        (group_number * 11 + place_in_group * 37 + n) % 2000 AS writing,
        pg_temp.caller(n) AS holder,
        now() - interval '3 years' * (1 - n / {service_requests}::float8) AS inserted_at,
        pg_temp.id({user}, 0) AS nobody
    FROM (SELECT n, (n - 1) % {groups} AS group_number, (n - 1) / {groups} % 100 AS place_in_group FROM generate_series(1, {service_requests}::bigint) n) AS placed
    OFFSET 0
) AS stated
JOIN (SELECT n AS writing, category, code_id, content FROM written) AS written USING (writing);

INSERT INTO medical_events.service_request_history (
    service_request_id, status, program_processing_status, used_by_legal_entity_id, used_by_employee_id, status_reason, inserted_at, inserted_by)
SELECT s.id, h.status, h.processing, h.legal_entity, h.employee, h.reason, s.inserted_at + h.after, s.inserted_by
FROM medical_events.service_requests s
CROSS JOIN LATERAL (VALUES
    ('active', NULL, NULL::uuid, NULL::uuid, NULL::jsonb, interval '0'),
    (NULL, CASE WHEN s.program_processing_status IS NOT NULL THEN 'new' END, NULL, NULL, NULL, interval '0'),
    (NULL, CASE WHEN s.used_by_legal_entity_id IS NOT NULL THEN 'in_queue' END, NULL, NULL, NULL, interval '1 day'),
    (NULL, NULL, s.used_by_legal_entity_id, NULL, NULL, interval '1 day'),
    (NULL, NULL, NULL, s.used_by_employee_id, NULL, interval '1 day'),
    (NULL, CASE WHEN s.program_processing_status IN ('in_progress', 'completed') THEN 'in_progress' END, NULL, NULL, NULL, interval '2 days'),
    (NULL, CASE WHEN s.program_processing_status = 'completed' THEN 'completed' END, NULL, NULL, NULL, interval '3 days'),
    (nullif(s.status, 'active'), NULL, NULL, NULL, s.status_reason, interval '3 days')
) AS h (status, processing, legal_entity, employee, reason, after)
WHERE num_nonnulls(h.status, h.processing, h.legal_entity, h.employee) = 1
ORDER BY s.inserted_at, h.after;

-- Jobs, events and the feed exist only for the latest service requests, because they are removed after a time.
INSERT INTO ops.jobs (
    id, action, service_request_id, patient_id, client_id, user_id, body, request_digest, status, refusal, inserted_at, ended_at)
SELECT
    pg_temp.id({job}, n),
    (ARRAY['use', 'process', 'complete', 'release', 'use'])[1 + n % 5],
    pg_temp.id({service_request}, {service_requests} - {jobs} + n),
    pg_temp.id({patient}, n),
    pg_temp.id({legal_entity}, pg_temp.caller(n)),
    pg_temp.id({user}, 1 + (n - 1) % {tokens}),
    jsonb_build_object('used_by_legal_entity', pg_temp.id({legal_entity}, pg_temp.caller(n))),
    sha256(convert_to('job' || n, 'UTF8')),
    CASE WHEN n % 20 = 0 THEN 'failed' ELSE 'processed' END,
    CASE WHEN n % 2000 = 0 THEN 'internal_error' WHEN n % 20 = 0 THEN 'already_used' END,
    now() - interval '90 days' * (1 - n / {jobs}::float8) - interval '1 second',
    now() - interval '90 days' * (1 - n / {jobs}::float8)
FROM generate_series(1, {jobs}::bigint) n;

ALTER TABLE ops.events DISABLE TRIGGER events_are_published;
INSERT INTO ops.events (id, entity_type, entity_id, properties, changed_by, event_time, legal_entity_ids)
SELECT
    pg_temp.id({event}, n),
    'ServiceRequest',
    pg_temp.id({service_request}, {service_requests} - {jobs} + n),
    '{"program_processing_status": {"old_value": "new", "new_value": "in_queue"}}',
    pg_temp.id({user}, 1 + (n - 1) % {tokens}),
    now() - interval '90 days' * (1 - n / {jobs}::float8),
    ARRAY[pg_temp.id({legal_entity}, pg_temp.caller(n)), pg_temp.id({legal_entity}, 1 + n * 7919 % {legal_entities})]
FROM generate_series(1, {jobs}::bigint) n;
ALTER TABLE ops.events ENABLE TRIGGER events_are_published;

-- Positions from 1 on, so that calls know where in the feed they read.
ALTER TABLE ops.event_feed DISABLE TRIGGER event_feed_follows_the_clock;
INSERT INTO ops.event_feed (legal_entity_id, event_id, event_time)
SELECT unnest(e.legal_entity_ids), e.id, e.event_time FROM ops.events e ORDER BY e.sequence_number;
ALTER TABLE ops.event_feed ENABLE TRIGGER event_feed_follows_the_clock;

-- The events in front of the oldest place of each feed have been removed.
INSERT INTO ops.event_horizons (legal_entity_id, position)
SELECT f.legal_entity_id, min(f.position) - 1 FROM ops.event_feed f GROUP BY f.legal_entity_id;

INSERT INTO ops.idempotency_records (client_id, key, user_key, request_digest, lease_id, locked_until, inserted_at, code, header, body)
SELECT
    pg_temp.id({legal_entity}, pg_temp.caller(n)), 'key-' || n, 'user key-' || n, sha256(convert_to('request' || n, 'UTF8')), pg_temp.id({lease}, n),
    now() - interval '1 day' * (1 - n / {keys}::float8) + interval '1 minute', now() - interval '1 day' * (1 - n / {keys}::float8),
    202, '{"Content-Type": ["application/json"]}', convert_to(repeat('{"status": "pending"}', 10), 'UTF8')
FROM generate_series(1, {keys}::bigint) n;

DO $$
DECLARE
    d record;
BEGIN
    FOR d IN SELECT creation, comment FROM deferred ORDER BY place LOOP
        EXECUTE d.creation;
        EXECUTE d.comment;
    END LOOP;
END
$$;
