package schemadoc

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/migrations"
)

// chapter is an operation and its statements.
type chapter struct {
	title, about string
	phases       []phase
}

// phase is a part of a chapter that runs at a time of its own.
type phase struct {
	name       string // empty: the chapter has only one phase
	statements []string
}

// recorder records the statements of a pool in their order.
type recorder struct {
	document *document

	mu         sync.Mutex
	statements []string
}

var queryName = regexp.MustCompile(`^\w+ /\* (\w+) \*/`)

func (r *recorder) note(statement string) {
	if named := queryName.FindStringSubmatch(statement); named != nil {
		statement = named[1]
	} else {
		statement, _, _ = strings.Cut(statement, " ") // begin, commit
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.statements) == 0 || r.statements[len(r.statements)-1] != statement { // many rows by one statement
		r.statements = append(r.statements, statement)
	}
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	r.note(data.SQL)
	return ctx
}

func (r *recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (r *recorder) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (r *recorder) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	r.note(data.SQL)
}

func (r *recorder) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (r *recorder) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn,
	data pgx.TraceCopyFromStartData) context.Context {
	r.note("COPY /* " + r.document.copied(strings.Join(data.TableName, ".")) + " */")
	return ctx
}

func (r *recorder) TraceCopyFromEnd(context.Context, *pgx.Conn, pgx.TraceCopyFromEndData) {}

// stage holds the rows for the rehearsed actions.
type stage struct {
	document *document
	url      string
	owner    *pgx.Conn
	caller   db.Caller
	other    uuid.UUID // another legal entity
	operator uuid.UUID
}

const timeZone = "Europe/Kyiv"

// newStage adds two legal entities. One of them is the caller and has a primary licence.
func newStage(ctx context.Context, d *document, url string, owner *pgx.Conn) (*stage, error) {
	s := &stage{d, url, owner, db.Caller{UserID: uuid.New(), ClientID: uuid.New()}, uuid.New(), uuid.New()}
	_, err := owner.Exec(ctx, `
		INSERT INTO prm.legal_entities (id, edrpou, name, type, status, inserted_by, updated_by)
		SELECT id, '', '', 'OUTPATIENT', 'ACTIVE', $1, $1 FROM pg_catalog.unnest($2::uuid[]) AS id`, s.operator,
		[]uuid.UUID{s.caller.ClientID, s.other})
	if err != nil {
		return nil, err
	}
	_, err = owner.Exec(ctx, `
		INSERT INTO prm.licenses (legal_entity_id, type, is_primary, issued_by, issued_date, active_from_date, inserted_by,
			updated_by)
		VALUES ($1, 'MSP', true, '', '2020-01-01', '2020-01-01', $2, $2)`, s.caller.ClientID, s.operator)
	return s, err
}

// record answers the statements that package db sends during an operation. Each recording has a pool of its own,
// without caches of the one before.
func (s *stage) record(ctx context.Context, role db.Role, do func(*db.DB) error) ([]string, error) {
	r := &recorder{document: s.document}
	d, err := db.Open(ctx, db.Config{URL: s.url, Role: role, TimeZone: timeZone, Tracer: r, MaxConns: 1})
	if err != nil {
		return nil, err
	}
	err = do(d)
	d.Close()
	return r.statements, err
}

// situation is the part of a service request on which actions depend.
type situation struct {
	status     string
	program    bool
	processing string // empty: null
	holder     string // empty: none
}

const (
	byCaller = "the caller"
	byOther  = "another"
)

func (s *stage) holder(name string) uuid.NullUUID {
	switch name {
	case byCaller:
		return uuid.NullUUID{UUID: s.caller.ClientID, Valid: true}
	case byOther:
		return uuid.NullUUID{UUID: s.other, Valid: true}
	}
	return uuid.NullUUID{}
}

// put adds a service request in a situation.
func (s *stage) put(ctx context.Context, at situation, expires time.Time) (uuid.UUID, error) {
	id := uuid.New()
	program := uuid.NullUUID{UUID: uuid.New(), Valid: at.program}
	_, err := s.owner.Exec(ctx, `
		INSERT INTO medical_events.service_requests (id, requisition, patient_id, status, category, program_id,
			program_processing_status,
			used_by_legal_entity_id, expiration_date, inserted_by, updated_by)
		VALUES ($1, '1', $1, $2, 'counselling', $3, nullif($4, ''), $5, $6, $7, $7)`,
		id, at.status, program, at.processing, s.holder(at.holder), expires, s.operator)
	return id, err
}

func (s *stage) find(ctx context.Context, id uuid.UUID) (situation, error) {
	var found situation
	var holder uuid.NullUUID
	err := s.owner.QueryRow(ctx, `
		SELECT status, program_id IS NOT NULL, coalesce(program_processing_status, ''), used_by_legal_entity_id
		FROM medical_events.service_requests WHERE id = $1`, id).Scan(&found.status, &found.program, &found.processing,
		&holder)
	switch {
	case holder == s.holder(byCaller):
		found.holder = byCaller
	case holder.Valid:
		found.holder = byOther
	}
	return found, err
}

// order is the action on a service request, with a fitting body.
func (s *stage) order(a db.Action, id uuid.UUID) db.Order {
	bodies := map[db.Action]any{
		db.Use: db.UseBody{UsedByLegalEntity: s.caller.ClientID}, db.Release: db.ReleaseBody{}, db.Process: db.ProcessBody{},
		db.Complete: db.CompleteBody{},
	}
	return db.Order{Action: a, ServiceRequestID: id, Caller: s.caller, Body: bodies[a]}
}

// run runs pending jobs.
func run(ctx context.Context, d *db.DB) error {
	for {
		if taken, err := d.Jobs.Run(ctx, db.Claim{Size: 100}); err != nil || len(taken) == 0 {
			return err
		}
	}
}

// actions has the actions in the order of a service request's life, each with a situation in which it is allowed.
var actions = []struct {
	db.Action
	from situation
}{
	{db.Use, situation{"active", true, "new", ""}},
	{db.Release, situation{"active", true, "in_queue", byCaller}},
	{db.Process, situation{"active", true, "in_queue", byCaller}},
	{db.Complete, situation{"active", true, "in_progress", byCaller}},
}

// rehearseTransactions runs each operation of the service and each command of the operator once.
func (d *document) rehearseTransactions(ctx context.Context, url string, owner *pgx.Conn) error {
	s, err := newStage(ctx, d, url, owner)
	if err != nil {
		return err
	}
	var current *chapter
	begin := func(title, about string) {
		d.chapters = append(d.chapters, chapter{title: title, about: about})
		current = &d.chapters[len(d.chapters)-1]
	}
	var failures []error
	part := func(name string, role db.Role, do func(*db.DB) error) {
		statements, err := s.record(ctx, role, do)
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", current.title, err))
		}
		current.phases = append(current.phases, phase{name, statements})
	}
	future := time.Now().Add(time.Hour)

	begin("Authenticate", "In front of every request of the API.")
	part("With a token of this database", db.App,
		func(b *db.DB) error { _, err := b.Access.Check(ctx, "-", "-"); return orUnknown(err) })
	part("With a token of an issuer", db.App,
		func(b *db.DB) error { _, err := b.Access.KnowsAPIKey(ctx, "-"); return err })

	for _, a := range actions {
		begin(strings.ToUpper(string(a.Action[:1]))+string(a.Action[1:])+" a service request", "")
		id, err := s.put(ctx, a.from, future)
		if err != nil {
			return err
		}
		part("At the request", db.App, func(b *db.DB) error {
			_, err := b.Jobs.Accept(ctx, s.order(a.Action, id))
			return err
		})
		part("In the job", db.App, func(b *db.DB) error { _, err := b.Jobs.Run(ctx, db.Claim{Size: 1}); return err })
	}

	begin("Retry a job that failed", "Attempts of a job that made its transaction fail are counted outside of it, as it "+
		"is undone; the last one "+
		"ends the job. The operator may order it anew.")
	id, err := s.put(ctx, actions[0].from, future)
	if err != nil {
		return err
	}
	var job db.Job
	if _, err := s.record(ctx, db.App, func(b *db.DB) error {
		job, err = b.Jobs.Accept(ctx, s.order(db.Use, id))
		return err
	}); err != nil {
		return err
	}
	part("After each failure", db.App, func(b *db.DB) (err error) {
		for ended := false; !ended && err == nil; {
			ended, err = b.Jobs.CountAttempt(ctx, job.ID, 0)
		}
		return err
	})
	part("By `reiestr jobs retry`", db.Owner, func(b *db.DB) error {
		_, err := b.JobRecords.Retry(ctx, job.ID)
		return err
	})
	if _, err := s.record(ctx, db.App, func(b *db.DB) error { return run(ctx, b) }); err != nil {
		return err
	}

	begin("Expire service requests", "Repeated until nothing is left, each batch in a transaction of its own.")
	part("", db.App, func(b *db.DB) error {
		_, err := b.ServiceRequests.Expire(ctx, nil, func(uuid.UUID, error) {})
		return err
	})

	begin("Read service requests", "")
	part("One of a patient", db.App, func(b *db.DB) error { _, err := b.ServiceRequests.Get(ctx, id, id); return err })
	part("Search by requisition", db.App, func(b *db.DB) error {
		_, err := b.ServiceRequests.ByRequisition(ctx, "1", "active", db.Page{Number: 1, Size: 1})
		return err
	})
	part("List of a patient", db.App, func(b *db.DB) error {
		_, err := b.ServiceRequests.OfPatient(ctx, id, db.ServiceRequestFilter{}, db.Page{Number: 1, Size: 1})
		return err
	})

	begin("Read jobs", "")
	part("By the client", db.App, func(b *db.DB) error {
		_, err := b.Jobs.Get(ctx, s.caller.ClientID, job.ID)
		return err
	})
	part("By `reiestr jobs list`", db.Owner, func(b *db.DB) error { _, err := b.JobRecords.List(ctx, "", 1); return err })
	part("By `reiestr jobs show`", db.Owner, func(b *db.DB) error { _, err := b.JobRecords.Show(ctx, job.ID); return err })

	fields := map[string]any{
		"type": "PHARMACY_DRUGS", "is_primary": false, "issued_by": "", "issued_date": "2020-01-01",
		"active_from_date": "2020-01-01",
	}
	var license db.License
	begin("Create a licence", "Simultaneous creations share a transaction.")
	part("", db.App, func(b *db.DB) (err error) { license, err = b.Licenses.Create(ctx, s.caller, fields); return err })
	part("Of a legal entity that does not exist", db.App, func(b *db.DB) error {
		_, err := b.Licenses.Create(ctx, db.Caller{UserID: s.caller.UserID, ClientID: uuid.New()}, fields)
		if errors.Is(err, db.LegalEntityNotActive) {
			return nil
		}
		return fmt.Errorf("a legal entity that does not exist: %w", err)
	})
	part("For the answer to an unknown type", db.App,
		func(b *db.DB) error { _, err := b.AllowedCodes(ctx, db.LicenseTypeUnknown); return err })

	begin("Update a licence", "")
	part("", db.App, func(b *db.DB) error {
		_, err := b.Licenses.Update(ctx, s.caller, license.ID, map[string]any{"type": "PHARMACY_DRUGS", "is_primary": false,
			"order_no": "1"})
		return err
	})

	begin("Read dictionaries", "A process reads them twice a second at most, and answers its callers from its memory.")
	part("", db.App, func(b *db.DB) error { _, err := b.Dictionaries.All(ctx); return err })

	begin("Read licences", "")
	part("", db.App, func(b *db.DB) error {
		_, err := b.Licenses.List(ctx, s.caller.ClientID, db.LicenseFilter{}, db.Page{Number: 1, Size: 1})
		return err
	})

	begin("Publish and read events", "Every process publishes: after its own transactions, at a poll of its workers, and "+
		"before it answers a reader.")
	var position int64
	part("When there are events", db.App, func(b *db.DB) (err error) {
		_, position, err = b.Events.After(ctx, s.caller.ClientID, 0, 100)
		return err
	})
	part("When there are none", db.App, func(b *db.DB) error {
		_, _, err := b.Events.After(ctx, s.caller.ClientID,
			position, 100)
		return err
	})

	begin("Answer a request with an Idempotency-Key", "The transactions of the request itself come between the two.")
	claimed := func(key string, end func(*db.IdempotencyLease) error) func(*db.DB) error {
		return func(b *db.DB) error {
			lease, _, err := b.Idempotency.Claim(ctx, s.caller, key, [32]byte{})
			if err != nil {
				return err
			}
			return end(lease)
		}
	}
	part("When it comes to a decision", db.App, claimed("1", func(l *db.IdempotencyLease) error {
		return l.Keep(ctx, db.Answer{Code: 200, Body: []byte("{}")})
	}))
	part("When it does not", db.App, claimed("2", func(l *db.IdempotencyLease) error { return l.Free(ctx) }))
	part("Now and then", db.App, func(b *db.DB) error { _, err := b.Idempotency.Forget(ctx); return err })

	begin("Remove old rows", "Once a day by a worker, or by `reiestr prune`: jobs, events, idempotency "+
		"keys. Each is repeated until nothing is "+
		"left, each batch in a transaction of its own ([why](../decisions/0018-retention.md)).")
	part("", db.App, func(b *db.DB) error { _, err := b.Prune(ctx, db.Retention{}); return err })

	begin("Issue and revoke tokens and api keys", "")
	part("By `reiestr token issue`", db.Owner, func(b *db.DB) error {
		if _, err := b.Access.KnowsClient(ctx, s.caller.ClientID); err != nil {
			return err
		}
		_, _, err := b.Access.IssueToken(ctx, s.caller, []string{}, time.Hour)
		return err
	})
	part("By `reiestr token revoke`", db.Owner, func(b *db.DB) error { return orUnknown(b.Access.RevokeToken(ctx, "-")) })
	part("By `reiestr apikey issue`", db.Owner,
		func(b *db.DB) error { _, err := b.Access.IssueAPIKey(ctx, "-"); return err })
	part("By `reiestr apikey revoke`", db.Owner,
		func(b *db.DB) error { return orUnknown(b.Access.RevokeAPIKey(ctx, "-")) })

	begin("Watch the service", "")
	part("By `/readyz`", db.App, func(b *db.DB) error { return b.Ready(ctx, migrations.Latest()) })
	part("By `/metrics`", db.App, func(b *db.DB) error { _, err := b.Jobs.Queue(ctx); return err })

	begin("Load a bundle", "`reiestr load`, as the owner: a whole file in one transaction. Also the way in which a legal "+
		"entity is closed, see "+
		link("legal_entities.sql", "queries.md", "legal_entities.sql")+".")
	part("", db.Owner, func(b *db.DB) error { return load(ctx, b, s) })
	return errors.Join(failures...)
}

// orUnknown ignores that a secret is unknown.
func orUnknown(err error) error {
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	return err
}

func date(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }

// chaptersOf lists the chapters in which a query runs.
func (d *document) chaptersOf(query string) string {
	var all []string
	for _, c := range d.chapters {
		if slices.ContainsFunc(c.phases, func(p phase) bool { return slices.Contains(p.statements, query) }) {
			all = append(all, link(c.title, "transactions.md", c.title))
		}
	}
	return strings.Join(all, ", ")
}

func (d *document) transactionsPage() string {
	p := newPage("Transactions")
	p.paragraph(`
The statements of each method in the order in which the database received them, and the row locks of each statement.
They were recorded while the method ran. Between ` + "`begin` and `commit`" + ` there is one transaction, READ
COMMITTED, which holds its locks to its end. A statement outside of them is a transaction of its own. The order of
locks is legal entity → licence → service request → job ([why](../decisions/0003-read-committed-and-row-locks.md)).`)
	p.line("")
	for _, c := range d.chapters {
		p.line("- " + link(c.title, "", c.title))
	}
	for _, c := range d.chapters {
		p.heading(2, c.title)
		p.paragraph(c.about)
		for _, ph := range c.phases {
			if ph.name != "" {
				p.paragraph("**" + ph.name + "**")
			}
			var rows [][]string
			for i, statement := range ph.statements {
				row := []string{fmt.Sprint(i + 1), code(statement), ""}
				if q := d.query(statement); q != nil {
					row = []string{fmt.Sprint(i + 1), q.link(), q.locks}
				}
				rows = append(rows, row)
			}
			p.table([]string{"", "statement", "locks"}, rows)
		}
	}
	var others []string
	for _, f := range d.files {
		for _, q := range f.queries {
			if d.chaptersOf(q.name) == "" {
				others = append(others, q.link())
			}
		}
	}
	if len(others) > 0 {
		p.heading(2, "Not shown")
		p.paragraph("In no chapter, each a transaction by itself or part of one that is not walked through here: " +
			strings.Join(others, ", ") + ".")
	}
	return p.String()
}

// load replaces a row of each table, and adds a service request.
func load(ctx context.Context, d *db.DB, s *stage) error {
	known, err := s.put(ctx, actions[0].from, date(2100))
	if err != nil {
		return err
	}
	return d.Bundles.Load(ctx, false, func(l *db.Loader) error {
		by, at := s.operator, l.Now
		licenses := []db.LicenseRow{{
			ID: uuid.New(), LegalEntityID: s.other, Type: "MSP", IsPrimary: true, IssuedDate: db.Date{Time: date(2020)},
			ActiveFromDate: db.Date{Time: date(2020)},
			InsertedAt:     at, InsertedBy: by, UpdatedAt: at, UpdatedBy: by,
		}}
		var requests []db.ServiceRequestRow
		for _, id := range []uuid.UUID{known, uuid.New()} {
			requests = append(requests, db.ServiceRequestRow{
				ServiceRequestColumns: db.ServiceRequestColumns{
					ID: id, Requisition: "2", PatientID: id, Status: "active", Category: "counselling", ExpirationDate: date(2100),
					Content: []byte("{}"), InsertedAt: at, InsertedBy: by, UpdatedAt: at, UpdatedBy: by,
				},
				History: []db.HistoryRow{{Status: new("active"), InsertedAt: at, InsertedBy: by}},
			})
		}
		for _, section := range []func() error{
			func() error {
				return l.Dictionaries(ctx, []db.DictionaryRow{{Name: "D", Values: []db.DictionaryValueRow{{Code: "C"}}}})
			},
			func() error { _, err := l.Codes(ctx, "D"); return err },
			func() error { return l.Parameters(ctx, []db.ParameterRow{{Name: "P", Value: []byte("true")}}) },
			func() error {
				return l.LegalEntities(ctx, []db.LegalEntityRow{{
					ID: s.other, Type: "OUTPATIENT", Status: "CLOSED", InsertedAt: at, InsertedBy: by, UpdatedAt: at, UpdatedBy: by,
				}})
			},
			func() error {
				return l.Divisions(ctx, []db.DivisionRow{{
					ID: uuid.New(), LegalEntityID: s.other, InsertedAt: at, InsertedBy: by, UpdatedAt: at, UpdatedBy: by,
				}})
			},
			func() error {
				return l.Employees(ctx, []db.EmployeeRow{{
					ID: uuid.New(), LegalEntityID: s.other, InsertedAt: at, InsertedBy: by, UpdatedAt: at, UpdatedBy: by,
				}})
			},
			func() error { return l.SetLicensesAside(ctx, licenses) },
			func() error { return l.Licenses(ctx, licenses) },
			func() error { return l.ServiceRequests(ctx, requests) },
		} {
			if err := section(); err != nil {
				return err
			}
		}
		return nil
	})
}
