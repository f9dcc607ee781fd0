package db_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/dev/testdb"
)

func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }

// noon is the moment at which rules decide in most tests, and today is its day in Kyiv.
var (
	noon  = time.Date(2026, 6, 15, 9, 0, 0, 0, time.UTC)
	today = date(2026, 6, 15)
)

func date(year, month, day int) time.Time {
	return time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
}

// licenseFields is the body of a request to create a licence, licenseChanges of a request to update one (contract 3.1,
// 3.3).
type licenseFields struct {
	Type           string     `json:"type"`
	IsPrimary      bool       `json:"is_primary"`
	LicenseNumber  *string    `json:"license_number,omitempty"`
	IssuedBy       string     `json:"issued_by"`
	IssuedDate     time.Time  `json:"issued_date"`
	ExpiryDate     *time.Time `json:"expiry_date,omitempty"`
	ActiveFromDate time.Time  `json:"active_from_date"`
	WhatLicensed   *string    `json:"what_licensed,omitempty"`
	OrderNo        *string    `json:"order_no,omitempty"`
}

type licenseChanges struct {
	Type           string     `json:"type"`
	IsPrimary      bool       `json:"is_primary"`
	LicenseNumber  *string    `json:"license_number,omitempty"`
	IssuedBy       *string    `json:"issued_by,omitempty"`
	IssuedDate     *time.Time `json:"issued_date,omitempty"`
	ExpiryDate     *time.Time `json:"expiry_date,omitempty"`
	ActiveFromDate *time.Time `json:"active_from_date,omitempty"`
	WhatLicensed   *string    `json:"what_licensed,omitempty"`
	OrderNo        *string    `json:"order_no,omitempty"`
}

// in is the licence with these fields.
func (f licenseFields) in(l db.License) db.License {
	l.Type, l.IsPrimary, l.LicenseNumber, l.IssuedBy = f.Type, f.IsPrimary, f.LicenseNumber, f.IssuedBy
	l.IssuedDate, l.ActiveFromDate, l.ExpiryDate = db.Date{Time: f.IssuedDate}, db.Date{Time: f.ActiveFromDate}, nil
	if f.ExpiryDate != nil {
		l.ExpiryDate = &db.Date{Time: *f.ExpiryDate}
	}
	l.WhatLicensed, l.OrderNo = f.WhatLicensed, f.OrderNo
	return l
}

func days(n int) time.Time { return today.AddDate(0, 0, n) }

// house is the database of one test. The embedded DB has the role of the service; owner is a pool of the owner, with
// which tests write fixtures and read results.
type house struct {
	*db.DB
	owner *pgxpool.Pool
	url   string
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{url: testdb.New(t).URL}
	h.DB = h.open(t, db.App, noon)
	h.owner = h.pool(t, db.Owner)
	return h
}

// open opens the database with a role. Its rules decide at the given moment.
func (h *house) open(t testing.TB, role db.Role, at time.Time) *db.DB {
	t.Helper()
	return h.openWith(t, db.Config{Role: role, AsOf: func() time.Time { return at }})
}

func (h *house) openWith(t testing.TB, c db.Config) *db.DB {
	t.Helper()
	c.URL, c.TimeZone = h.url, "Europe/Kyiv"
	d, err := db.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// pool opens a pool that does not use the package under test.
func (h *house) pool(t testing.TB, role db.Role) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(h.url)
	if err != nil {
		t.Fatal(err)
	}
	testdb.Pin(config.ConnConfig)
	config.ConnConfig.RuntimeParams["role"] = string(role)
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// begin begins a transaction of the owner. It is rolled back at the end of the test unless it has been committed.
func (h *house) begin(t testing.TB) pgx.Tx {
	t.Helper()
	tx, err := h.owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Rollback(context.Background()) })
	return tx
}

func (h *house) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	exec(t, h.owner, sql, args...)
}

type execer interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
}

func exec(t testing.TB, e execer, sql string, args ...any) {
	t.Helper()
	if _, err := e.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func commit(t testing.TB, tx pgx.Tx) {
	t.Helper()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// column answers the only column of a query of the owner.
func column[T any](t testing.TB, h *house, sql string, args ...any) []T {
	t.Helper()
	rows, err := h.owner.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return values
}

// value answers the only value of a query of the owner.
func value[T any](t testing.TB, h *house, sql string, args ...any) T {
	t.Helper()
	values := column[T](t, h, sql, args...)
	if len(values) != 1 {
		t.Fatalf("%s: %d rows, want 1", sql, len(values))
	}
	return values[0]
}

// untilWaiting returns when n sessions wait for a lock of another session.
func (h *house) untilWaiting(t testing.TB, n int) {
	t.Helper()
	h.until(t, "sessions wait for a lock", `
		SELECT count(DISTINCT l.pid) >= $1 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE NOT l.granted AND a.datname = current_database()`, n)
}

// untilHeld returns when n commands wait for rows that another transaction holds.
func untilHeld(t testing.TB, d *db.DB, n int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if now, _, _ := d.Waiters(); now >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %d commands wait for held rows", n)
		}
	}
}

// until returns when the query answers true.
func (h *house) until(t testing.TB, what, sql string, args ...any) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !value[bool](t, h, sql, args...); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// atOnce calls f n times at the same moment, and returns when all calls have returned.
func atOnce(n int, f func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	all.Wait()
}

// started calls f in the background. The channel receives its answer.
func started[T any](f func() T) <-chan T {
	answer := make(chan T, 1)
	go func() { answer <- f() }()
	return answer
}

// receive is <-c with a bound: a test that waits in vain fails, and does not stop the tests of the package.
func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(time.Minute):
		t.Fatal("nothing received within a minute")
		panic("unreachable")
	}
}

// refusal is the refusal of a rule; "": the rules allow the order. Any other error ends the test.
func refusal(t testing.TB, err error) db.Refusal {
	t.Helper()
	var r db.Refusal
	if err != nil && !errors.As(err, &r) {
		t.Fatal(err)
	}
	return r
}

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

func constraintOf(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.ConstraintName
	}
	return ""
}

// row is a fixture. Saved again, it replaces the stored row.
type row interface{ statement() (string, []any) }

func (h *house) save(t testing.TB, rows ...row) {
	t.Helper()
	for _, r := range rows {
		sql, args := r.statement()
		h.exec(t, sql, args...)
	}
}

// operator is the user of the fixtures.
var operator = uuid.MustParse("00000000-0000-4000-8000-000000000001")

type parameter struct{ name, value string }

func (p parameter) statement() (string, []any) {
	return `INSERT INTO prm.parameters (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE
		SET value = excluded.value`,
		[]any{p.name, p.value}
}

type licenseType struct {
	code     string
	isActive bool
}

func (l licenseType) statement() (string, []any) {
	return `INSERT INTO prm.dictionary_values (dictionary, code, is_active) VALUES ('LICENSE_TYPE', $1, $2)
		ON CONFLICT (dictionary, code) DO UPDATE SET is_active = excluded.is_active`, []any{l.code, l.isActive}
}

type legalEntity struct {
	id           uuid.UUID
	kind, status string
}

func newLegalEntity() legalEntity { return legalEntity{uuid.New(), "OUTPATIENT", "ACTIVE"} }

func (l legalEntity) statement() (string, []any) {
	return `INSERT INTO prm.legal_entities (id, edrpou, name, type, status, inserted_by, updated_by)
		VALUES ($1, '00000000', 'Клініка', $2, $3, $4, $4)
		ON CONFLICT (id) DO UPDATE SET type = excluded.type, status = excluded.status`,
		[]any{l.id, l.kind, l.status, operator}
}

// caller is a new user of the legal entity.
func (l legalEntity) caller() db.Caller { return db.Caller{UserID: uuid.New(), ClientID: l.id} }

type employee struct {
	id, legalEntity uuid.UUID
	kind, status    string
}

func (l legalEntity) newEmployee() employee { return employee{uuid.New(), l.id, "DOCTOR", "APPROVED"} }

func (e employee) statement() (string, []any) {
	return `INSERT INTO prm.employees (id, legal_entity_id, employee_type, status, inserted_by, updated_by)
		VALUES ($1, $2, $3, $4, $5, $5)
		ON CONFLICT (id) DO UPDATE SET legal_entity_id = excluded.legal_entity_id, employee_type = excluded.employee_type,
			status = excluded.status`,
		[]any{e.id, e.legalEntity, e.kind, e.status, operator}
}

type division struct{ id, legalEntity uuid.UUID }

func (l legalEntity) newDivision() division { return division{uuid.New(), l.id} }

func (d division) statement() (string, []any) {
	return `INSERT INTO prm.divisions (id, legal_entity_id, name, status, inserted_by, updated_by)
		VALUES ($1, $2, 'Відділення', 'ACTIVE', $3, $3)
		ON CONFLICT (id) DO UPDATE SET legal_entity_id = excluded.legal_entity_id`, []any{d.id, d.legalEntity, operator}
}

type license struct {
	id, legalEntity     uuid.UUID
	kind                string
	isActive, isPrimary bool
	expires             *time.Time
}

// primary is an active primary licence that never expires.
func (l legalEntity) primary() license {
	return license{id: uuid.New(), legalEntity: l.id, kind: "MSP", isActive: true, isPrimary: true}
}

func (l license) statement() (string, []any) {
	return `INSERT INTO prm.licenses (id, legal_entity_id, type, is_active, is_primary, issued_by, issued_date,
		active_from_date, expiry_date, inserted_by, updated_by)
		VALUES ($1, $2, $3, $4, $5, 'МОЗ', '2020-01-01', '2020-01-01', $6, $7, $7)
		ON CONFLICT (id) DO UPDATE SET type = excluded.type, is_active = excluded.is_active, is_primary = excluded.is_primary,
			expiry_date = excluded.expiry_date`,
		[]any{l.id, l.legalEntity, l.kind, l.isActive, l.isPrimary, l.expires, operator}
}

type serviceRequest struct {
	id, patient                     uuid.UUID
	status, category                string
	program                         *uuid.UUID
	processing                      *string
	legalEntity, employee, division *uuid.UUID // by which the service request is used
	requester                       *uuid.UUID // the legal entity that has made the service request
	expires                         time.Time
}

// newServiceRequest is a service request that any legal entity may use.
func newServiceRequest() serviceRequest {
	return serviceRequest{
		id: uuid.New(), patient: uuid.New(), status: "active", category: "counselling",
		program: new(uuid.New()), processing: new("new"), expires: noon.Add(time.Hour), requester: new(uuid.New()),
	}
}

// usedBy is the service request after a legal entity has reserved it.
func (s serviceRequest) usedBy(l legalEntity) serviceRequest {
	s.processing, s.legalEntity = new("in_queue"), &l.id
	return s
}

// concerns are the legal entities that an event of the service request concerns: the holder, and the requester.
func (s serviceRequest) concerns(holder *uuid.UUID) []any {
	var held any
	if holder != nil {
		held = holder.String()
	}
	return []any{held, s.requester.String()}
}

func (s serviceRequest) statement() (string, []any) {
	return `INSERT INTO medical_events.service_requests (id, requisition, patient_id, status, category, program_id,
		program_processing_status,
			used_by_legal_entity_id, used_by_employee_id, used_by_division_id, expiration_date, inserted_at, inserted_by, updated_at, updated_by,
			requester_legal_entity_id)
		VALUES ($1, '0000-1111-2222-3333', $2, $3, $4, $5, $6, $7, $8, $9, $10, '2026-06-01', $11, '2026-06-01', $11, $12)
		ON CONFLICT (id) DO UPDATE SET status = excluded.status, category = excluded.category,
			program_id = excluded.program_id,
			program_processing_status = excluded.program_processing_status, used_by_legal_entity_id = excluded.used_by_legal_entity_id,
			used_by_employee_id = excluded.used_by_employee_id, used_by_division_id = excluded.used_by_division_id,
			expiration_date = excluded.expiration_date`,
		[]any{
			s.id, s.patient, s.status, s.category, s.program, s.processing, s.legalEntity, s.employee, s.division, s.expires,
			operator, s.requester,
		}
}
