package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/api"
	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/dev/program"
	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/migrations"
)

// registry is a new database with the rows that right requests need, and the process that serves it.
type registry struct {
	name       string
	conn       *pgx.Conn // of the superuser
	owner      *db.DB
	service    *program.Service
	clinic     uuid.UUID
	token, key string
	requests   []uuid.UUID // patient and service request have the same id
	licence    string
	job        string
}

// exampleClinic is the legal entity of the document's examples, and exampleEmployee its employee.
var (
	exampleClinic   = uuid.MustParse("8be63914-a278-470b-b868-1af5b9087332")
	exampleEmployee = uuid.MustParse("c5a1d9f0-7b2e-4c63-8d4f-1e0a9b8c7d65")
)

func open(ctx context.Context, server *testdb.Server, root, folder string) (*registry, error) {
	r := &registry{name: "reiestr_hostile_" + strings.ReplaceAll(uuid.NewString(), "-", ""), clinic: exampleClinic}
	conn, err := testdb.Connect(ctx, server.URL)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err = conn.Exec(ctx, "CREATE DATABASE "+r.name); err != nil {
		return nil, err
	}
	url, err := server.Of(r.name)
	if err != nil {
		return r, err
	}
	if err := migrations.Up(ctx, url); err != nil {
		return r, err
	}
	if r.conn, err = testdb.Connect(ctx, url); err != nil {
		return r, err
	}
	if r.owner, err = db.Open(ctx, db.Config{URL: url, Role: db.Owner, TimeZone: "Europe/Kyiv"}); err != nil {
		return r, err
	}
	if err := r.fill(ctx); err != nil {
		return r, err
	}
	binary, err := program.Build(ctx, root, folder)
	if err != nil {
		return r, err
	}
	if r.service, err = program.Serve(ctx, binary, "all", url, folder+"/service.log"); err != nil {
		return r, err
	}
	return r, r.begin(ctx)
}

func (r *registry) fill(ctx context.Context) (err error) {
	for _, statement := range []string{
		`INSERT INTO prm.legal_entities (id, edrpou, name, type, status, inserted_by, updated_by)
			VALUES ($1, '12345678', 'Clinic', 'OUTPATIENT', 'ACTIVE', $1, $1)`,
		`INSERT INTO prm.licenses (legal_entity_id, type, is_primary, issued_by, issued_date, active_from_date, inserted_by,
			updated_by) VALUES ($1, 'MSP', true, 'Ministry', '2020-01-01', '2020-01-01', $1, $1)`,
	} {
		if _, err := r.conn.Exec(ctx, statement, r.clinic); err != nil {
			return err
		}
	}
	if _, err := r.conn.Exec(ctx, `INSERT INTO prm.employees (id, legal_entity_id, employee_type, status, inserted_by,
		updated_by) VALUES ($1, $2, 'DOCTOR', 'APPROVED', $2, $2)`, exampleEmployee, r.clinic); err != nil {
		return err
	}
	rows, err := r.conn.Query(ctx, `INSERT INTO medical_events.service_requests (id, requisition, patient_id, status,
			program_id, program_processing_status, used_by_legal_entity_id, category, expiration_date, inserted_by, updated_by)
		SELECT n.id, CASE WHEN n.number <= 10 THEN 'R' ELSE 'R-' || n.number END, n.id, 'active', gen_random_uuid(), (ARRAY['new', 'in_queue', 'in_progress'])[1 + n.number % 3],
			CASE WHEN n.number % 3 > 0 THEN $1::uuid END, 'counselling', now() + interval '1 year', $1, $1
		FROM (SELECT number, gen_random_uuid() AS id FROM generate_series(1, 1000) number OFFSET 0) AS n
		ORDER BY n.number RETURNING id`, r.clinic)
	if err != nil {
		return err
	}
	if r.requests, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err != nil {
		return err
	}
	if r.key, err = r.owner.Access.IssueAPIKey(ctx, "hostile"); err != nil {
		return err
	}
	caller := db.Caller{UserID: uuid.New(), ClientID: r.clinic}
	r.token, _, err = r.owner.Access.IssueToken(ctx, caller, api.Scopes(), 12*time.Hour)
	return err
}

// begin makes a licence and a job by right calls.
func (r *registry) begin(ctx context.Context) error {
	code, text, err := r.call(ctx, http.MethodPost, "/api/licenses", `{"type": "PHARMACY_DRUGS", "is_primary": false,
		"issued_by": "x", "issued_date": "2026-01-15", "active_from_date": "2026-02-01"}`)
	var created struct {
		Data struct {
			ID    string
			Links []struct{ Href string }
		}
	}
	if err == nil {
		err = json.Unmarshal(text, &created)
	}
	if err != nil || code != http.StatusCreated {
		return fmt.Errorf("creating a licence: %d %s %w", code, text, err)
	}
	r.licence = created.Data.ID
	code, text, err = r.call(
		ctx, http.MethodPatch,
		"/api/service_requests/"+r.requests[0].String()+"/actions/process",
		"",
	)
	if err == nil {
		err = json.Unmarshal(text, &created)
	}
	if err != nil || code != http.StatusAccepted || len(created.Data.Links) != 1 {
		return fmt.Errorf("ordering a job: %d %s %w", code, text, err)
	}
	r.job = strings.TrimPrefix(created.Data.Links[0].Href, "/api/jobs/")
	return nil
}

// call sends a request as a well-behaved client does.
func (r *registry) call(ctx context.Context, method, path, body string) (code int, text []byte, err error) {
	a := attempt{Method: method, Request: request{method: method, target: path, body: body, header: []string{
		"Host: x", "Authorization: Bearer {{token}}", "api-key: {{key}}", "Content-Type: application/json",
		"Connection: close",
	}}.octets()}
	answers, err := r.send(a)
	if err != nil {
		return 0, nil, err
	}
	return answers[0].code, answers[0].raw, ctx.Err()
}

// memory reads the resident memory of the service in MiB: now, and at most since its start.
func (r *registry) memory() (now, most int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.service.Pid()))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		n, _ := strconv.Atoi(fields[1])
		switch fields[0] {
		case "VmRSS:":
			now = n >> 10
		case "VmHWM:":
			most = n >> 10
		}
	}
	return now, most, nil
}

// close ends the process and drops the database.
func (r *registry) close(server *testdb.Server) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if r.service != nil {
		if stopped := r.service.Stop(); stopped != nil {
			err = fmt.Errorf("the service does not stop in order: %w", stopped)
		}
	}
	if r.owner != nil {
		r.owner.Close()
	}
	if r.conn != nil {
		r.conn.Close(ctx) //nolint:errcheck // the database is dropped
	}
	conn, failed := testdb.Connect(ctx, server.URL)
	if failed != nil {
		return errors.Join(err, failed)
	}
	defer conn.Close(ctx)
	_, failed = conn.Exec(ctx, "DROP DATABASE IF EXISTS "+r.name+" WITH (FORCE)")
	return errors.Join(err, failed)
}
