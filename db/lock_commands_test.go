package db_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db"
)

// recorder writes down the transactions of a DB: the names of their queries, in order.
type recorder struct {
	mu           sync.Mutex
	transactions [][]string
	begins       []string // what transactions were begun with
}

func (r *recorder) add(sql string) {
	name := strings.TrimSpace(sql)
	if _, rest, ok := strings.Cut(name, " /* "); ok {
		name, _, _ = strings.Cut(rest, " ")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if strings.HasPrefix(name, "begin") {
		r.begins = append(r.begins, name)
		name = "begin"
	}
	last := len(r.transactions) - 1
	if last >= 0 && r.transactions[last][0] == "begin" &&
		!slices.Contains([]string{"commit", "rollback"}, r.transactions[last][len(r.transactions[last])-1]) {
		r.transactions[last] = append(r.transactions[last], name)
		return
	}
	r.transactions = append(r.transactions, []string{name})
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	r.add(q.SQL)
	return ctx
}
func (r *recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (r *recorder) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}
func (r *recorder) TraceBatchQuery(_ context.Context, _ *pgx.Conn, q pgx.TraceBatchQueryData) {
	r.add(q.SQL)
}
func (r *recorder) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}
func (r *recorder) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, c pgx.TraceCopyFromStartData) context.Context {
	return context.WithValue(ctx, copiedTable{}, strings.Join(c.TableName, "."))
}
func (r *recorder) TraceCopyFromEnd(ctx context.Context, _ *pgx.Conn, c pgx.TraceCopyFromEndData) {
	if c.CommandTag.RowsAffected() > 0 { // else the copy has locked nothing
		r.add("COPY /* " + copyQueries[ctx.Value(copiedTable{}).(string)] + " */")
	}
}

type copiedTable struct{}

// copyQueries are the :copyfrom queries by their tables, which is all that a tracer is told of a copy.
var copyQueries = map[string]string{
	"prm.dictionary_values":                  "AddDictionaryValues",
	"medical_events.service_request_history": "AddHistory",
	"medical_events.service_requests":        "AddServiceRequests",
}

// lockCommand is what the service or its operator does to an aggregate, as its statements lock it.
type lockCommand struct {
	name  string
	reads bool                                     // holds nothing, waits for nobody
	does  func(*testing.T, *recordedHouse, *db.DB) // all that its transactions can be: allowed, refused
	owner bool                                     // run by the operator
}

// lockAggregate is what commands meet on. Each pair of its commands has to be in the spec of its name: one under way,
// the other comes.
type lockAggregate struct {
	name, title string
	commands    []lockCommand
	asPairs     bool // false: the spec tells of more than two sessions
}

// recordedHouse has what commands are recorded on.
type recordedHouse struct {
	*house
	clinic legalEntity
	caller db.Caller
}

func (h *recordedHouse) newLicense(t *testing.T, kind string) licenseFields {
	h.save(t, parameter{"LEGAL_ENTITY_OUTPATIENT_ADDITIONAL_LICENSE_TYPES", `["PHARMACY_DRUGS", "PHARMACY", "MSP"]`})
	return licenseFields{Type: kind, IssuedBy: "Issuer", IssuedDate: days(-9), ActiveFromDate: days(-1)}
}

func createLicense(t *testing.T, h *recordedHouse, d *db.DB) {
	h.save(t, h.clinic.primary())
	_, err := d.Licenses.Create(t.Context(), h.caller, h.newLicense(t, "PHARMACY_DRUGS"))
	must(t, err)
}

// whileHeld carries out a command while another transaction holds the legal entity: the command finds that, does
// nothing, and looks again.
func whileHeld(t *testing.T, h *recordedHouse, d *db.DB, do func() error) {
	tx := h.begin(t)
	exec(t, tx, `SELECT FROM prm.legal_entities WHERE id = $1 FOR NO KEY UPDATE`, h.clinic.id)
	done := started(do)
	untilHeld(t, d, 1)
	commit(t, tx)
	must(t, receive(t, done))
}

func createLicenses(t *testing.T, h *recordedHouse, d *db.DB) {
	createLicense(t, h, d)
	fields := h.newLicense(t, "PHARMACY")
	whileHeld(t, h, d, func() error { _, err := d.Licenses.Create(t.Context(), h.caller, fields); return err })
}

func updateLicense(t *testing.T, h *recordedHouse, d *db.DB) {
	primary := h.clinic.primary()
	h.save(t, primary)
	l, err := h.Licenses.Create(t.Context(), h.caller, h.newLicense(t, "PHARMACY_DRUGS"))
	must(t, err)
	_, err = d.Licenses.Update(t.Context(), h.caller, l.ID, licenseChanges{Type: "PHARMACY_DRUGS", OrderNo: new("1")})
	must(t, err)
	if _, err = d.Licenses.Update(t.Context(), h.caller, primary.id, licenseChanges{Type: "MSP"}); refusal(t, err) == "" {
		t.Error("no refusal")
	}
	whileHeld(t, h, d, func() error {
		_, err := d.Licenses.Update(t.Context(), h.caller, l.ID, licenseChanges{Type: "PHARMACY_DRUGS", OrderNo: new("2")})
		return err
	})
}

// load is a bundle with the sections that do fills.
func load(do func(context.Context, *db.Loader, *recordedHouse) error) func(*testing.T, *recordedHouse, *db.DB) {
	return func(t *testing.T, h *recordedHouse, d *db.DB) {
		must(t, d.Bundles.Load(t.Context(), false, func(l *db.Loader) error { return do(t.Context(), l, h) }))
	}
}

func loadLegalEntity(ctx context.Context, l *db.Loader, h *recordedHouse) error {
	return l.LegalEntities(ctx, []db.LegalEntityRow{{ID: h.clinic.id, Type: "OUTPATIENT", Status: "CLOSED",
		InsertedAt: l.Now, UpdatedAt: l.Now}})
}

func loadLicense(ctx context.Context, l *db.Loader, h *recordedHouse) error {
	rows := []db.LicenseRow{{
		ID: uuid.New(), LegalEntityID: h.clinic.id, Type: "MSP", IsActive: true, IsPrimary: true, IssuedBy: "Issuer",
		IssuedDate: db.Date{Time: today}, ActiveFromDate: db.Date{Time: today}, InsertedAt: l.Now, UpdatedAt: l.Now,
	}}
	if err := l.SetLicensesAside(ctx, rows); err != nil {
		return err
	}
	return l.Licenses(ctx, rows)
}

// loadServiceRequest loads the service request that has the id of the clinic.
func loadServiceRequest(ctx context.Context, l *db.Loader, h *recordedHouse) error {
	return l.ServiceRequests(ctx, []db.ServiceRequestRow{{
		ServiceRequestColumns: db.ServiceRequestColumns{
			ID: h.clinic.id, Status: "active", Content: []byte("{}"), ExpirationDate: l.Now, InsertedAt: l.Now, UpdatedAt: l.Now,
		},
		History: []db.HistoryRow{{Status: new("active"), InsertedAt: l.Now}},
	}})
}

// loadAll is a bundle with parties and a service request that is there already.
func loadAll(t *testing.T, h *recordedHouse, d *db.DB) {
	s := newServiceRequest()
	s.id = h.clinic.id
	h.save(t, s)
	load(func(ctx context.Context, l *db.Loader, h *recordedHouse) error {
		return errors.Join(loadLegalEntity(ctx, l, h), loadLicense(ctx, l, h), loadServiceRequest(ctx, l, h))
	})(t, h, d)
}

// run carries out an action as a job, once allowed and once refused.
func run(action db.Action, body func(*recordedHouse) any) func(*testing.T, *recordedHouse, *db.DB) {
	return func(t *testing.T, h *recordedHouse, d *db.DB) {
		s := newServiceRequest()
		if action != db.Use {
			s = s.usedBy(h.clinic)
		}
		if action == db.Complete {
			s.processing = new("in_progress")
		}
		h.save(t, s)
		for range 2 {
			_, err := h.Jobs.Accept(t.Context(), db.Order{Action: action, ServiceRequestID: s.id, Caller: h.clinic.caller(),
				Body: body(h)})
			must(t, err)
		}
		for range 3 { // the last time there is nothing to do
			_, err := d.Jobs.Run(t.Context(), db.Claim{Size: 9})
			must(t, err)
		}
		if n := value[int](t, h.house, `SELECT count(DISTINCT status) FROM ops.jobs WHERE status <> 'pending' AND service_request_id = $1`, s.id); n != 2 {
			t.Errorf("%d ends, want processed and failed", n)
		}
	}
}

func nothing(*recordedHouse) any { return struct{}{} }

func accept(t *testing.T, h *recordedHouse, d *db.DB) {
	s := newServiceRequest()
	h.save(t, s)
	order := db.Order{Action: db.Use, ServiceRequestID: s.id, Caller: h.caller,
		Body: db.UseBody{UsedByLegalEntity: h.clinic.id}}
	_, err := d.Jobs.Accept(t.Context(), order)
	must(t, err)
}

// acceptedJob is a pending job.
func acceptedJob(t *testing.T, h *recordedHouse) uuid.UUID {
	accept(t, h, h.DB)
	return value[uuid.UUID](t, h.house, `SELECT id FROM ops.jobs ORDER BY sequence_number DESC LIMIT 1`)
}

// claimed is the lease of an idempotency key.
func claimed(t *testing.T, h *recordedHouse, d *db.DB) *db.IdempotencyLease {
	lease, _, err := d.Idempotency.Claim(t.Context(), db.Caller{ClientID: h.clinic.id}, "key", [32]byte{})
	must(t, err)
	return lease
}

// lockAggregates are all on which two commands can meet.
var lockAggregates = []lockAggregate{
	{"legal_entity", "Legal entity and its licences", []lockCommand{
		{name: "create license", does: createLicenses},
		{name: "update license", does: updateLicense},
		{name: "load legal entity", owner: true, does: load(loadLegalEntity)},
		{name: "load licenses", owner: true, does: load(loadLicense)},
		{name: "load staff", owner: true, does: load(func(ctx context.Context, l *db.Loader, h *recordedHouse) error {
			if err := l.Divisions(ctx, []db.DivisionRow{{ID: uuid.New(), LegalEntityID: h.clinic.id, InsertedAt: l.Now,
				UpdatedAt: l.Now}}); err != nil {
				return err
			}
			return l.Employees(ctx, []db.EmployeeRow{{ID: uuid.New(), LegalEntityID: h.clinic.id, InsertedAt: l.Now,
				UpdatedAt: l.Now}})
		})},
		{name: "list licenses", reads: true, does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			_, err := d.Licenses.List(t.Context(), h.clinic.id, db.LicenseFilter{}, db.Page{Number: 1, Size: 9})
			must(t, err)
		}},
	}, true},
	{"service_request", "Service request", []lockCommand{
		{name: "use", does: run(db.Use, func(h *recordedHouse) any { return db.UseBody{UsedByLegalEntity: h.clinic.id} })},
		{name: "release", does: run(db.Release, nothing)},
		{name: "process", does: run(db.Process, nothing)},
		{name: "complete", does: run(db.Complete, nothing)},
		{name: "expire", does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			s := newServiceRequest()
			s.expires = noon.Add(-time.Hour)
			h.save(t, s)
			cure := h.poison(t, "22000", "0000-1111-2222-3333") // the row cannot be recalled
			_, err := d.ServiceRequests.Expire(t.Context(), nil, func(uuid.UUID, error) {})
			must(t, err)
			cure()
			_, err = d.ServiceRequests.Expire(t.Context(), nil, mustExpire(t))
			must(t, err)
		}},
		{name: "load service requests", owner: true, does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			for range 2 { // new, and there already
				load(loadServiceRequest)(t, h, d)
			}
		}},
		{name: "get service request", reads: true, does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			s := newServiceRequest()
			h.save(t, s)
			_, err := d.ServiceRequests.Get(t.Context(), s.patient, s.id)
			must(t, err)
		}},
	}, true},
	{"job", "Job", []lockCommand{
		{name: "accept", does: accept},
		{name: "run", does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			run(db.Use, func(h *recordedHouse) any { return db.UseBody{UsedByLegalEntity: h.clinic.id} })(t, h, d)
			_, err := h.Jobs.CountAttempt(t.Context(), acceptedJob(t, h), 0)
			must(t, err)
			for range 2 { // the last time there is nothing to do
				_, err = d.Jobs.Run(t.Context(), db.Claim{Size: 1, Repeated: true})
				must(t, err)
			}
		}},
		{name: "count attempt", does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			id := acceptedJob(t, h)
			_, err := d.Jobs.CountAttempt(t.Context(), id, 0)
			must(t, err)
			must(t, d.Jobs.Postpone(t.Context(), id, time.Second, time.Minute)) // where the job is not the cause
		}},
		{name: "retry", owner: true, does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			id := acceptedJob(t, h)
			for range 5 {
				_, err := h.Jobs.CountAttempt(t.Context(), id, 0)
				must(t, err)
			}
			_, err := d.JobRecords.Retry(t.Context(), id)
			must(t, err)
		}},
		{name: "prune", does: func(t *testing.T, _ *recordedHouse, d *db.DB) {
			_, err := d.Jobs.Prune(t.Context(), month.Jobs)
			must(t, err)
		}},
		{name: "get job", reads: true, does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			_, err := d.Jobs.Get(t.Context(), h.clinic.id, acceptedJob(t, h))
			must(t, err)
		}},
	}, true},
	{"event", "Events and their feeds", []lockCommand{
		{name: "write", does: createLicense},
		{name: "publish", does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			createLicense(t, h, h.DB)
			must(t, d.Events.Publish(t.Context()))
		}},
		{name: "prune", does: func(t *testing.T, _ *recordedHouse, d *db.DB) {
			_, err := d.Events.Prune(t.Context(), month.Events)
			must(t, err)
		}},
		{name: "list events", reads: true, does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			_, _, err := d.Events.After(t.Context(), h.clinic.id, db.Beginning, 9)
			must(t, err)
		}},
		{name: "list events by time", reads: true, does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			_, err := d.Events.ByTime(t.Context(), h.clinic.id, db.EventFilter{}, db.Page{Number: 1, Size: 9})
			must(t, err)
		}},
		{name: "get event", reads: true, does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			if _, err := d.Events.Get(t.Context(), h.clinic.id, uuid.New()); !errors.Is(err, db.ErrNotFound) {
				t.Error(err)
			}
		}},
	}, true},
	{"idempotency_key", "Idempotency key", []lockCommand{
		{name: "claim", does: func(t *testing.T, h *recordedHouse, d *db.DB) { claimed(t, h, d) }},
		{name: "keep", does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			must(t, claimed(t, h, d).Keep(t.Context(), db.Answer{Code: 201, Body: []byte("{}")}))
		}},
		{name: "free", does: func(t *testing.T, h *recordedHouse, d *db.DB) { must(t, claimed(t, h, d).Free(t.Context())) }},
		{name: "forget", does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			_, err := d.Idempotency.Forget(t.Context())
			must(t, err)
		}},
	}, true},
	{"access", "Token and api key", []lockCommand{
		{name: "revoke token", owner: true, does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			token, _, err := h.open(t, db.Owner, noon).Access.IssueToken(t.Context(), h.caller, []string{"job:read"}, time.Hour)
			must(t, err)
			must(t, d.Access.RevokeToken(t.Context(), token))
		}},
		{name: "revoke api key", owner: true, does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			key, err := h.open(t, db.Owner, noon).Access.IssueAPIKey(t.Context(), "name")
			must(t, err)
			must(t, d.Access.RevokeAPIKey(t.Context(), key))
		}},
		{name: "authenticate", reads: true, does: func(t *testing.T, h *recordedHouse, d *db.DB) {
			if _, err := d.Access.Check(t.Context(), "token", "key"); !errors.Is(err, db.ErrNotFound) {
				t.Error(err)
			}
		}},
	}, true},
	{"reference_data", "Dictionaries and chart parameters", []lockCommand{
		{name: "load dictionaries", owner: true, does: load(func(ctx context.Context, l *db.Loader, _ *recordedHouse) error {
			return l.Dictionaries(ctx, []db.DictionaryRow{{Name: "D", Values: []db.DictionaryValueRow{{Code: "C"}}}})
		})},
		{name: "load parameters", owner: true, does: load(func(ctx context.Context, l *db.Loader, _ *recordedHouse) error {
			return l.Parameters(ctx, []db.ParameterRow{{Name: "P", Value: []byte("true")}})
		})},
		{name: "create license", does: createLicenses},
	}, true},
	{"order", "All at once", []lockCommand{
		{name: "load", owner: true, does: loadAll},
	}, false},
}

// record answers the transactions that a command can be, each from begin to commit or rollback: a statement of its own
// is one, too. Reads that a command needs before or after are left out.
func (c lockCommand) record(t *testing.T, of *house, queries map[string]namedQuery) (paths [][]string) {
	t.Helper()
	h := &recordedHouse{house: of, clinic: newLegalEntity()}
	h.caller = h.clinic.caller()
	h.save(t, h.clinic)
	role := db.App
	if c.owner {
		role = db.Owner
	}
	var r recorder
	d, err := db.Open(t.Context(), db.Config{
		URL: h.url, Role: role, TimeZone: "Europe/Kyiv", Tracer: &r, AsOf: func() time.Time { return noon },
	})
	must(t, err)
	t.Cleanup(d.Close)
	c.does(t, h, d)
	for _, begun := range r.begins {
		if begun != beginning {
			t.Errorf("%s begins its transactions with %q, and the specs with %q", c.name, begun, beginning)
		}
	}
	for _, path := range r.transactions {
		locking := slices.ContainsFunc(path, func(name string) bool { return queries[name].holds() })
		if locking == c.reads {
			continue
		}
		if path[0] != "begin" {
			path = append(append([]string{"begin"}, path...), "commit")
		}
		if !slices.ContainsFunc(paths, func(p []string) bool { return slices.Equal(p, path) }) {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		t.Errorf("%s has no transaction", c.name)
	}
	return paths
}

// beginning is how the service begins its transactions.
const beginning = "begin isolation level read committed read write"

// holds tells whether the query locks what others could wait for, or be kept waiting by.
func (q namedQuery) holds() bool {
	return q.name != "" && !strings.HasPrefix(q.locks, "none.") && !strings.HasPrefix(q.locks, "none of its own")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
