package db_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/reiestr/reiestr/db"
)

// sketch fills a database with one row in each table, under fixed names that the statements below use.
const sketch = `
INSERT INTO prm.legal_entities (id, edrpou, name, type, status, inserted_by, updated_by) VALUES
	('00000000-0000-0000-0000-0000000000a1', '1', 'A', 'OUTPATIENT', 'ACTIVE', gen_random_uuid(), gen_random_uuid());
INSERT INTO prm.licenses (id, legal_entity_id, type, is_primary, issued_by, issued_date, active_from_date, expiry_date,
	inserted_by, updated_by) VALUES
	('00000000-0000-0000-0000-0000000000b1', '00000000-0000-0000-0000-0000000000a1', 'PHARMACY_DRUGS', false, '', '2026-01-01', '2026-01-01', '2026-01-01', gen_random_uuid(), gen_random_uuid()),
	('00000000-0000-0000-0000-0000000000b2', '00000000-0000-0000-0000-0000000000a1', 'MSP', true, '', '2026-01-03', '2026-01-02', '2026-01-01', gen_random_uuid(), gen_random_uuid());
INSERT INTO medical_events.service_requests (id, requisition, patient_id, status, category, program_id,
	program_processing_status, used_by_legal_entity_id, used_by_employee_id, expiration_date, inserted_by, updated_by)
		VALUES
	('00000000-0000-0000-0000-0000000000c1', '', gen_random_uuid(), 'active', 'counselling', gen_random_uuid(), 'new', NULL, NULL, now(), gen_random_uuid(), gen_random_uuid()),
	('00000000-0000-0000-0000-0000000000c2', '', gen_random_uuid(), 'active', 'counselling', gen_random_uuid(), 'in_queue', gen_random_uuid(), gen_random_uuid(), now(), gen_random_uuid(), gen_random_uuid()),
	('00000000-0000-0000-0000-0000000000c3', '', gen_random_uuid(), 'active', 'counselling', NULL, NULL, NULL, NULL, now(), gen_random_uuid(), gen_random_uuid()),
	('00000000-0000-0000-0000-0000000000c4', '', gen_random_uuid(), 'completed', 'counselling', gen_random_uuid(), 'completed', NULL, NULL, now(), gen_random_uuid(), gen_random_uuid()),
	('00000000-0000-0000-0000-0000000000c5', '', gen_random_uuid(), 'recalled', 'counselling', NULL, NULL, NULL, NULL, now(), gen_random_uuid(), gen_random_uuid()),
	('00000000-0000-0000-0000-0000000000c6', '', gen_random_uuid(), 'entered_in_error', 'counselling', NULL, NULL, NULL, NULL, now(), gen_random_uuid(), gen_random_uuid());
INSERT INTO medical_events.service_request_history (service_request_id, status, inserted_by) VALUES
	('00000000-0000-0000-0000-0000000000c1', 'active', gen_random_uuid());
INSERT INTO ops.jobs (id, action, service_request_id, patient_id, client_id, user_id, body, request_digest) VALUES
	('00000000-0000-0000-0000-0000000000d1', 'use', '00000000-0000-0000-0000-0000000000c1', gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '{}', sha256('1'));
INSERT INTO ops.events (entity_type, entity_id, properties, changed_by) VALUES
	('License', '00000000-0000-0000-0000-0000000000b1', '{"status": {}}', gen_random_uuid());
INSERT INTO ops.access_tokens (token_hash, user_id, client_id, scopes, expires_at) VALUES
	(sha256('token'), gen_random_uuid(), gen_random_uuid(), '{}', now());
INSERT INTO ops.api_keys (key_hash, name) VALUES (sha256('key'), 'MIS');
`

// Statements that insert a row of a kind. The columns in question are added to them.
const (
	insertLicense = `INSERT INTO prm.licenses (legal_entity_id, issued_by, inserted_by, updated_by, type, is_primary,
		issued_date, active_from_date, expiry_date)
		VALUES ('00000000-0000-0000-0000-0000000000a1', '', gen_random_uuid(), gen_random_uuid(), `
	insertJob = `INSERT INTO ops.jobs (id, service_request_id, patient_id, client_id, user_id, body, action,
		request_digest, status, refusal, ended_at)
		VALUES (gen_random_uuid(), '00000000-0000-0000-0000-0000000000c1', gen_random_uuid(), gen_random_uuid(),
			gen_random_uuid(), '{}', `
	insertHistory = `INSERT INTO medical_events.service_request_history (service_request_id, inserted_by, status,
		program_processing_status, used_by_legal_entity_id, used_by_employee_id)
		VALUES ('00000000-0000-0000-0000-0000000000c1', gen_random_uuid(), `
	insertEvent = `INSERT INTO ops.events (entity_id, changed_by, event_type, entity_type, properties)
		VALUES (gen_random_uuid(), gen_random_uuid(), `
	insertKey = `INSERT INTO ops.idempotency_records (client_id, lease_id, locked_until, key, request_digest, code,
		header, body)
		VALUES (gen_random_uuid(), gen_random_uuid(), now(), `
	updateNew = `UPDATE medical_events.service_requests SET updated_at = now(), %s
		WHERE id = '00000000-0000-0000-0000-0000000000c1'`
	updateInQueue = `UPDATE medical_events.service_requests SET updated_at = now(), %s
		WHERE id = '00000000-0000-0000-0000-0000000000c2'`
	updateNoProgram = `UPDATE medical_events.service_requests SET updated_at = now(), %s
		WHERE id = '00000000-0000-0000-0000-0000000000c3'`
	updateJob = `UPDATE ops.jobs SET %s WHERE id = '00000000-0000-0000-0000-0000000000d1'`
)

// illegal are statements, by the constraint that must refuse them. The owner is refused by the constraint. The service
// is too, where it may write the table (app); it lacks the right elsewhere.
var illegal = map[string]struct {
	app        bool
	statements []string
}{
	"prm.dictionaries_name_not_empty": {false, []string{`INSERT INTO prm.dictionaries (name) VALUES ('')`}},
	"prm.dictionary_values_code_not_empty": {false, []string{`INSERT INTO prm.dictionary_values (dictionary, code)
		VALUES ('LICENSE_TYPE', '')`}},
	"prm.dictionary_values_dictionary_fkey": {false, []string{`INSERT INTO prm.dictionary_values (dictionary, code)
		VALUES ('NONE', 'X')`}},
	"prm.dictionary_values_parent_code_fkey": {false, []string{
		`INSERT INTO prm.dictionary_values (dictionary, code, parent_code) VALUES ('LICENSE_TYPE', 'X', 'NONE')`,
		`INSERT INTO prm.dictionary_values (dictionary, code, parent_code) VALUES ('LICENSE_TYPE', 'X', 'DOCTOR')`,
	}},
	"prm.parameters_name_not_empty": {false, []string{`INSERT INTO prm.parameters VALUES ('', 'true')`}},
	"prm.parameters_value_shape": {false, []string{
		`INSERT INTO prm.parameters VALUES ('x', 'null')`,
		`INSERT INTO prm.parameters VALUES ('x', '1')`,
		`INSERT INTO prm.parameters VALUES ('x', '{}')`,
		`INSERT INTO prm.parameters VALUES ('x', '[1]')`,
		`INSERT INTO prm.parameters VALUES ('x', '["A", null]')`,
		`INSERT INTO prm.parameters VALUES ('x', '["A", true]')`,
		`INSERT INTO prm.parameters VALUES ('x', '["A", ["B"]]')`,
		`INSERT INTO prm.parameters VALUES ('x', '[[]]')`,
		`INSERT INTO prm.parameters VALUES ('x', '["A", {"B": "C"}]')`,
		`UPDATE prm.parameters SET value = '0' WHERE name = 'release_requires_holder'`,
	}},
	"prm.legal_entities_type_not_empty": {false, []string{`UPDATE prm.legal_entities SET type = ''`}},
	"prm.legal_entities_status_known": {false, []string{
		`UPDATE prm.legal_entities SET status = ''`,
		`UPDATE prm.legal_entities SET status = 'active'`,
		`UPDATE prm.legal_entities SET status = 'BLOCKED'`,
	}},
	"prm.divisions_legal_entity_id_fkey": {false, []string{
		`INSERT INTO prm.divisions (id, legal_entity_id, name, status, inserted_by, updated_by)
			VALUES (gen_random_uuid(), gen_random_uuid(), '', '', gen_random_uuid(), gen_random_uuid())`,
	}},
	"prm.employees_legal_entity_id_fkey": {false, []string{
		`INSERT INTO prm.employees (id, legal_entity_id, employee_type, status, inserted_by, updated_by)
			VALUES (gen_random_uuid(), gen_random_uuid(), '', '', gen_random_uuid(), gen_random_uuid())`,
	}},
	"prm.licenses_legal_entity_id_fkey": {true, []string{
		`INSERT INTO prm.licenses (legal_entity_id, issued_by, inserted_by, updated_by, type, is_primary, issued_date,
			active_from_date)
			VALUES (gen_random_uuid(), '', gen_random_uuid(), gen_random_uuid(), 'MSP', true, '2026-01-01', '2026-01-01')`,
	}},
	"prm.licenses_additional_issued_before_active": {true, []string{
		insertLicense + `'X', false, '2026-01-02', '2026-01-01', NULL)`,
		insertLicense + `'X', false, '2026-01-02', '2026-01-01', '2026-01-02')`,
	}},
	"prm.licenses_additional_active_before_expiry": {true, []string{
		insertLicense + `'X', false, '2026-01-02', '2026-01-02', '2026-01-01')`,
	}},
	"prm.licenses_active_additional_type_key": {true, []string{
		insertLicense + `'PHARMACY_DRUGS', false, '2026-01-01', '2026-01-01', NULL)`,
	}},

	"medical_events.service_requests_status_known": {true, []string{
		rest(updateNew, `status = ''`),
		rest(updateNew, `status = 'ACTIVE'`),
		rest(updateNew, `status = 'in_queue'`),
	}},
	"medical_events.service_requests_processing_status_known": {true, []string{
		rest(updateNew, `program_processing_status = ''`),
		rest(updateNew, `program_processing_status = 'active'`),
	}},
	"medical_events.service_requests_processing_status_needs_program": {true, []string{
		rest(updateNoProgram, `program_processing_status = 'new'`),
		rest(updateNoProgram, `program_processing_status = 'completed'`),
		rest(updateNoProgram, `program_processing_status = 'in_queue', used_by_legal_entity_id = gen_random_uuid()`),
	}},
	"medical_events.service_requests_reserved_has_holder": {true, []string{
		rest(updateNew, `program_processing_status = 'in_queue'`),
		rest(updateNew, `program_processing_status = 'in_progress'`),
		rest(updateInQueue, `used_by_legal_entity_id = NULL, used_by_employee_id = NULL`),
	}},
	"medical_events.service_requests_new_has_no_holder": {true, []string{
		rest(updateNew, `used_by_legal_entity_id = gen_random_uuid()`),
		rest(updateInQueue, `program_processing_status = 'new'`),
	}},
	"medical_events.service_requests_employee_and_division_with_holder": {true, []string{
		rest(updateNew, `used_by_employee_id = gen_random_uuid()`),
		rest(updateNew, `used_by_division_id = gen_random_uuid()`),
		rest(updateInQueue, `used_by_legal_entity_id = NULL, program_processing_status = 'new'`),
	}},
	"medical_events.service_requests_content_is_object": {false, []string{
		rest(updateNew, `content = '[]'`),
		rest(updateNew, `content = 'null'`),
		rest(updateNew, `content = '"text"'`),
	}},
	"medical_events.service_request_history_one_element": {true, []string{
		insertHistory + `NULL, NULL, NULL, NULL)`,
		insertHistory + `'active', 'new', NULL, NULL)`,
		insertHistory + `NULL, NULL, gen_random_uuid(), gen_random_uuid())`,
		insertHistory + `'active', 'new', gen_random_uuid(), gen_random_uuid())`,
	}},
	"medical_events.service_request_history_service_request_id_fkey": {true, []string{
		`INSERT INTO medical_events.service_request_history (service_request_id, inserted_by, status)
			VALUES (gen_random_uuid(), gen_random_uuid(), 'active')`,
	}},

	"ops.jobs_action_known": {true, []string{
		insertJob + `'', sha256('2'), 'pending', NULL, NULL)`,
		insertJob + `'recall', sha256('2'), 'pending', NULL, NULL)`,
	}},
	"ops.jobs_status_known": {true, []string{
		insertJob + `'use', sha256('2'), 'running', NULL, now())`,
		rest(updateJob, `status = '', ended_at = now()`),
	}},
	"ops.jobs_failed_has_refusal": {true, []string{
		insertJob + `'use', sha256('2'), 'failed', NULL, now())`,
		insertJob + `'use', sha256('2'), 'processed', 'already_used', now())`,
		insertJob + `'use', sha256('2'), 'pending', 'already_used', NULL)`,
		rest(updateJob, `status = 'failed', ended_at = now()`),
		rest(updateJob, `refusal = 'already_used'`),
	}},
	"ops.jobs_ended_has_moment": {true, []string{
		insertJob + `'use', sha256('2'), 'processed', NULL, NULL)`,
		insertJob + `'use', sha256('2'), 'failed', 'already_used', NULL)`,
		insertJob + `'use', sha256('2'), 'pending', NULL, now())`,
		rest(updateJob, `status = 'processed'`),
		rest(updateJob, `ended_at = now()`),
	}},
	"ops.jobs_digest_is_sha256": {true, []string{
		insertJob + `'use', '', 'pending', NULL, NULL)`,
		insertJob + `'use', 'digest', 'pending', NULL, NULL)`,
	}},
	"ops.jobs_pending_request_key": {true, []string{
		insertJob + `'use', sha256('1'), 'pending', NULL, NULL)`,
	}},
	"ops.events_event_type_known": {true, []string{insertEvent + `'Event', 'License', '{"status": {}}')`}},
	"ops.events_entity_type_known": {true, []string{
		insertEvent + `'StatusChangeEvent', '', '{"status": {}}')`,
		insertEvent + `'StatusChangeEvent', 'Division', '{"status": {}}')`,
	}},
	"ops.events_properties_shape": {true, []string{
		insertEvent + `'StatusChangeEvent', 'License', '{}')`,
		insertEvent + `'StatusChangeEvent', 'License', '[]')`,
		insertEvent + `'StatusChangeEvent', 'License', 'null')`,
		insertEvent + `'StatusChangeEvent', 'License', '"status"')`,
	}},
	"ops.idempotency_records_key_length": {true, []string{
		insertKey + `'', sha256('1'), NULL, NULL, NULL)`,
		insertKey + `repeat('k', 256), sha256('1'), NULL, NULL, NULL)`,
	}},
	"ops.idempotency_records_user_key": {true, []string{
		`INSERT INTO ops.idempotency_records (client_id, lease_id, locked_until, key, user_key, request_digest)
			SELECT '00000000-0000-0000-0000-0000000000a1', gen_random_uuid(), now(), k, 'user key', sha256('1')
			FROM unnest('{a,b}'::text[]) k`,
	}},
	"ops.idempotency_records_digest_is_sha256": {true, []string{insertKey + `'k', 'digest', NULL, NULL, NULL)`}},
	"ops.idempotency_records_answer_is_decision": {true, []string{
		insertKey + `'k', sha256('1'), 500, '{}', '')`,
		insertKey + `'k', sha256('1'), 101, '{}', '')`,
	}},
	"ops.idempotency_records_answer_is_whole": {true, []string{
		insertKey + `'k', sha256('1'), 200, NULL, '')`,
		insertKey + `'k', sha256('1'), 200, '{}', NULL)`,
		insertKey + `'k', sha256('1'), NULL, '{}', '')`,
	}},
	"ops.access_epoch_has_one_row": {false, []string{`INSERT INTO ops.access_epoch (is_only_row, epoch) VALUES (false, 1)`}},
	"ops.access_tokens_hash_is_sha256": {false, []string{
		`INSERT INTO ops.access_tokens (token_hash, user_id, client_id, scopes, expires_at)
			VALUES ('secret', gen_random_uuid(), gen_random_uuid(), '{}', now())`,
	}},
	"ops.api_keys_hash_is_sha256": {false, []string{`INSERT INTO ops.api_keys (key_hash, name) VALUES ('secret', 'MIS')`}},
	"ops.api_keys_name_not_empty": {false, []string{`INSERT INTO ops.api_keys (key_hash, name) VALUES (sha256('2'), '')`}},
}

func rest(statement, columns string) string { return strings.Replace(statement, "%s", columns, 1) }

func TestIllegalStatesAreRefusedByName(t *testing.T) {
	t.Parallel()
	const noRight = "42501"
	h := newHouse(t)
	h.exec(t, sketch)
	app := h.pool(t, db.App)
	for name, c := range illegal {
		_, constraint, _ := strings.Cut(name, ".")
		for _, statement := range c.statements {
			if _, err := h.owner.Exec(t.Context(), statement); constraintOf(err) != constraint {
				t.Errorf("owner: %s: %v, want %s", statement, err, constraint)
			}
			_, err := app.Exec(t.Context(), statement)
			if c.app && constraintOf(err) != constraint {
				t.Errorf("service: %s: %v, want %s", statement, err, constraint)
			}
			if !c.app && sqlState(err) != noRight {
				t.Errorf("service: %s: %v, want no right", statement, err)
			}
		}
	}
}

func TestIllegalStatesCoverEveryConstraint(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	want := column[string](t, h, `
		SELECT connamespace::regnamespace || '.' || conname FROM pg_constraint
		WHERE contype NOT IN ('n', 'p') AND connamespace::regnamespace::text IN ('prm', 'medical_events', 'ops')
		UNION
		SELECT c.relnamespace::regnamespace || '.' || c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		WHERE i.indisunique AND NOT i.indisprimary AND c.relnamespace::regnamespace::text IN ('prm', 'medical_events',
			'ops')`)
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(illegal)); !slices.Equal(got, want) {
		t.Errorf("constraints with a test\n%v\nin the database\n%v", got, want)
	}
}

// Statements that must stay possible, beside those of the service in the other tests.
func TestLegalStates(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.exec(t, sketch)
	for _, statement := range []string{
		`INSERT INTO prm.parameters VALUES ('list', '[]'), ('strings', '["A", "B"]'), ('switch', 'false'), ('text', '"A"')`,
		insertLicense + `'X', false, '2026-01-01', '2026-01-01', NULL)`,
		insertLicense + `'Y', false, '2026-01-01', '2026-01-01', '2026-01-01')`,
		// Primary licences are stored as given, and one of a type does not prevent an additional one of this type.
		insertLicense + `'PHARMACY_DRUGS', true, '2026-01-03', '2026-01-02', '2026-01-01')`,
		rest(updateNoProgram, `used_by_legal_entity_id = gen_random_uuid()`),
		rest(updateNew, `program_processing_status = 'completed'`),
	} {
		h.exec(t, statement)
	}
	h.exec(t, `UPDATE prm.licenses SET is_active = false WHERE type = 'PHARMACY_DRUGS'`)
	h.exec(t, insertLicense+`'PHARMACY_DRUGS', false, '2026-01-01', '2026-01-01', NULL)`)
	h.exec(t, rest(updateJob, `status = 'processed', ended_at = now()`))
	h.exec(t, insertJob+`'use', sha256('1'), 'pending', NULL, NULL)`)
}

func TestFinalStatusStays(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.exec(t, sketch)
	app := h.pool(t, db.App)
	statuses := []string{"active", "completed", "recalled", "entered_in_error"}
	for _, from := range statuses[1:] {
		for _, to := range statuses {
			const leave = `UPDATE medical_events.service_requests SET status = $2 WHERE status = $1`
			want := "service_requests_final_status_stays"
			if to == from {
				want = ""
			}
			tag, err := app.Exec(t.Context(), leave, from, to)
			if constraintOf(err) != want || err == nil && tag.RowsAffected() != 1 {
				t.Errorf("the service, %s to %s: %v, %v", from, to, tag, err)
			}
			tx := h.begin(t)
			if tag, err := tx.Exec(t.Context(), leave, from, to); err != nil || tag.RowsAffected() != 1 {
				t.Errorf("the owner, %s to %s: %v, %v", from, to, tag, err)
			}
			tx.Rollback(t.Context())
		}
	}
	if _, err := app.Exec(t.Context(), `UPDATE medical_events.service_requests SET status = 'recalled'
		WHERE status = 'active'`); err != nil {
		t.Errorf("from active: %v", err)
	}
}

func TestTheServiceHasNoRightTo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.exec(t, sketch)
	app := h.pool(t, db.App)
	var statements []string
	for _, table := range column[string](t, h, `
		SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('prm', 'medical_events', 'ops')`) {
		// The service itself removes rows that are kept for a time only.
		if table != "ops.unpublished_events" && table != "ops.idempotency_records" {
			statements = append(statements, `DELETE FROM `+table)
		}
		statements = append(statements, `TRUNCATE `+table, `ALTER TABLE `+table+` DISABLE TRIGGER ALL`, `DROP TABLE `+table)
	}
	statements = append(statements,
		`UPDATE medical_events.service_request_history SET inserted_at = now()`,
		`UPDATE ops.events SET event_time = now()`,
		`UPDATE ops.event_feed SET event_id = gen_random_uuid()`,
		`UPDATE ops.unpublished_events SET event_id = gen_random_uuid()`,
		`UPDATE ops.idempotency_records SET client_id = gen_random_uuid()`,
		`UPDATE ops.idempotency_records SET key = 'other'`,
		`INSERT INTO ops.access_tokens (token_hash, user_id, client_id, scopes, expires_at)
			VALUES (sha256('2'), gen_random_uuid(), gen_random_uuid(), '{}', now())`,
		`UPDATE ops.access_tokens SET revoked_at = NULL`,
		`UPDATE ops.access_tokens SET expires_at = now()`,
		`UPDATE ops.access_tokens SET scopes = '{license:write}'`,
		`INSERT INTO ops.api_keys (key_hash, name) VALUES (sha256('2'), 'MIS')`,
		`UPDATE ops.api_keys SET revoked_at = NULL`,
		`UPDATE prm.legal_entities SET status = 'ACTIVE'`,
		`UPDATE prm.parameters SET value = 'false'`,
		`UPDATE prm.dictionaries SET description = 'x'`,
		`UPDATE prm.dictionary_values SET is_active = true`,
		`UPDATE prm.employees SET status = 'APPROVED'`,
		`UPDATE prm.divisions SET status = 'ACTIVE'`,
		`INSERT INTO medical_events.service_requests SELECT * FROM medical_events.service_requests`,
		`UPDATE medical_events.service_requests SET expiration_date = now()`,
		`UPDATE medical_events.service_requests SET program_id = NULL`,
		`UPDATE medical_events.service_requests SET content = '{}'`,
		`UPDATE ops.jobs SET client_id = gen_random_uuid()`,
		`UPDATE ops.jobs SET body = '{}'`,
		`UPDATE ops.jobs SET request_digest = sha256('2')`,
		`UPDATE ops.schema_versions SET is_applied = false`,
		`CREATE TABLE ops.own (id int)`,
		`CREATE TABLE prm.own (id int)`,
		`CREATE TABLE medical_events.own (id int)`,
		`CREATE SCHEMA own`,
		// RESET ROLE sets the role with which the connection began, not that of its login.
		`SET ROLE reiestr_owner; RESET ROLE; UPDATE ops.events SET event_time = now()`,
	)
	for _, statement := range statements {
		if _, err := app.Exec(t.Context(), statement); sqlState(err) != "42501" {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

func TestTheServiceOwnsNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for what, sql := range map[string]string{
		"relations": `SELECT relname::text FROM pg_class WHERE relowner = 'reiestr_app'::regrole`,
		"schemas":   `SELECT nspname::text FROM pg_namespace WHERE nspowner = 'reiestr_app'::regrole`,
		"functions": `SELECT proname::text FROM pg_proc WHERE proowner = 'reiestr_app'::regrole`,
		"types":     `SELECT typname::text FROM pg_type WHERE typowner = 'reiestr_app'::regrole`,
		"anything": `SELECT classid::regclass::text FROM pg_shdepend
			WHERE refclassid = 'pg_authid'::regclass AND refobjid = 'reiestr_app'::regrole AND deptype = 'o'
				AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
		"roles": `SELECT roleid::regrole::text FROM pg_auth_members WHERE member = 'reiestr_app'::regrole`,
		"attributes": `SELECT rolname::text FROM pg_roles WHERE rolname = 'reiestr_app' AND (rolsuper OR rolcreaterole
			OR rolcreatedb OR rolcanlogin OR rolreplication OR rolbypassrls)`,
		// Two functions remove rows past their retention, one moves the sequence of the feed. Only the service may call them,
		// and they ignore the search_path.
		"security definer": `SELECT proname::text FROM pg_proc WHERE prosecdef
			AND pronamespace::regnamespace::text IN ('prm', 'medical_events', 'ops')
			AND NOT (proname IN ('prune_jobs', 'prune_events', 'advance_event_feed') AND 'search_path=""' = ANY (proconfig) AND NOT has_function_privilege('public', oid, 'EXECUTE'))`,
		"objects of another owner": `SELECT c.oid::regclass::text FROM pg_class c
			WHERE c.relnamespace::regnamespace::text IN ('prm', 'medical_events', 'ops')
				AND c.relowner <> 'reiestr_owner'::regrole`,
	} {
		if found := column[string](t, h, sql); len(found) > 0 {
			t.Errorf("%s: %v", what, found)
		}
	}
}
