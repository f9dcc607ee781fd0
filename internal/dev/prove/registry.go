package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/api"
	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/dev/program"
	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/migrations"
)

const (
	clinics         = 4    // legal entities that want the same service requests
	users           = 2    // of each
	requests        = 6000 // service requests, one in twenty of them expired
	licensedClinics = 60   // legal entities that create licences
	licenceTypes    = 8
	victims         = 40 // tokens to be revoked
)

// licenceType is the type with that number, from 1 on.
func licenceType(n int) string { return fmt.Sprintf("TYPE_%d", n) }

// caller is a legal entity with a token for each of its users.
type caller struct {
	id     uuid.UUID
	tokens []string
}

// registry is a new database on the server, with the rows of a run, and the processes that serve it.
type registry struct {
	url, name string
	served    string    // the URL that the processes use; url, unless faults disturb their connections
	conn      *pgx.Conn // of the superuser
	owner     *db.DB

	key      string
	clinics  []caller
	licensed []caller
	victims  []string
	requests []uuid.UUID // patient and service request have the same id

	program      string
	processes    []*instance
	addresses    []string // of the API, as the clients reach it
	folder, root string
}

// instance is a process of the service, which faults may replace.
type instance struct {
	role string

	mu      sync.Mutex
	service *program.Service
}

func (p *instance) current() *program.Service {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.service
}

// sql carries out statements as the superuser.
func (r *registry) sql(ctx context.Context, text string, args ...any) error {
	_, err := r.conn.Exec(ctx, text, args...)
	return err
}

// open makes a database on the server, whose URL is of a superuser, and fills it.
func open(ctx context.Context, server, root, folder string) (*registry, error) {
	r := &registry{name: "reiestr_prove_" + strings.ReplaceAll(uuid.NewString(), "-", ""), root: root, folder: folder}
	conn, err := testdb.Connect(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err = conn.Exec(ctx, "CREATE DATABASE "+r.name); err != nil {
		return nil, err
	}
	address, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	address.Path = "/" + r.name
	r.url = address.String()
	r.served = r.url
	if err := migrations.Up(ctx, r.url); err != nil {
		return nil, err
	}
	if r.conn, err = testdb.Connect(ctx, r.url); err != nil {
		return nil, err
	}
	if r.owner, err = db.Open(ctx, db.Config{URL: r.url, Role: db.Owner, TimeZone: "Europe/Kyiv"}); err != nil {
		return nil, err
	}
	return r, r.fill(ctx)
}

// connect replaces the superuser's connection, which a fault may have ended.
func (r *registry) connect(ctx context.Context) (err error) {
	r.conn.Close(ctx) //nolint:errcheck // it may be closed
	r.conn, err = testdb.Connect(ctx, r.url)
	return err
}

func (r *registry) fill(ctx context.Context) (err error) {
	types := make([]string, licenceTypes)
	for i := range types {
		types[i] = licenceType(i + 1)
	}
	for _, statement := range []string{
		`INSERT INTO prm.dictionary_values (dictionary, code, description, is_active)
			SELECT 'LICENSE_TYPE', t, t, true FROM unnest($1::text[]) t`,
		`UPDATE prm.parameters SET value = to_jsonb($1::text[])
			WHERE name = 'LEGAL_ENTITY_OUTPATIENT_ADDITIONAL_LICENSE_TYPES'`,
	} {
		if err := r.sql(ctx, statement, types); err != nil {
			return err
		}
	}
	if r.key, err = r.owner.Access.IssueAPIKey(ctx, "prove"); err != nil {
		return err
	}
	issue := func(client uuid.UUID) (token string, err error) {
		token, _, err = r.owner.Access.IssueToken(
			ctx,
			db.Caller{UserID: uuid.New(), ClientID: client},
			api.Scopes(),
			time.Hour,
		)
		return token, err
	}
	for n := range clinics + licensedClinics + 1 {
		c := caller{id: uuid.New()}
		if err := r.sql(ctx, `INSERT INTO prm.legal_entities
			(id, edrpou, name, type, status, inserted_by, updated_by)
			VALUES ($1, lpad($2::int::text, 8, '0'), 'Clinic', 'OUTPATIENT', 'ACTIVE', $1, $1)`, c.id, n); err != nil {
			return err
		}
		if err := r.sql(ctx, `INSERT INTO prm.licenses (id, legal_entity_id, type, is_active, is_primary, issued_by,
			issued_date, active_from_date, inserted_by, updated_by)
			VALUES (gen_random_uuid(), $1, 'MSP', true, true, 'MOZ', '2020-01-01', '2020-01-01', $1, $1)`, c.id); err != nil {
			return err
		}
		count := users
		if n == clinics+licensedClinics {
			count = victims
		}
		for range count {
			token, err := issue(c.id)
			if err != nil {
				return err
			}
			c.tokens = append(c.tokens, token)
		}
		switch {
		case n < clinics:
			r.clinics = append(r.clinics, c)
		case n < clinics+licensedClinics:
			r.licensed = append(r.licensed, c)
		default:
			r.victims = c.tokens
		}
	}
	holders := make([]uuid.UUID, clinics)
	for i, c := range r.clinics {
		holders[i] = c.id
	}
	// The expired ones are held at first: when their holders have released them they can be recalled.
	rows, err := r.conn.Query(ctx, `INSERT INTO medical_events.service_requests (id, requisition, patient_id, status,
			program_id, program_processing_status, used_by_legal_entity_id, category, expiration_date, inserted_by, updated_by)
		SELECT n.id, 'R', n.id, 'active', gen_random_uuid(), CASE WHEN n.expired THEN 'in_queue' ELSE 'new' END,
			CASE WHEN n.expired THEN ($2::uuid[])[1 + n.number % $3] END, 'counselling',
			now() + CASE WHEN n.expired THEN interval '-1 day' ELSE interval '1 year' END, n.id, n.id
		FROM (SELECT number, number % 20 = 0 AS expired, gen_random_uuid() AS id
			FROM generate_series(1, $1) number OFFSET 0) AS n
		ORDER BY n.number RETURNING id`, requests, holders, clinics)
	if err != nil {
		return err
	}
	r.requests, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	return err
}

// initial is the state in which the n-th service request begins, n from 0 on.
func initial(n int) request {
	if number := n + 1; number%20 == 0 {
		return request{"active", "in_queue", 1 + number%clinics, true}
	}
	return request{Status: "active", Processing: "new"}
}

// serve starts two API processes and two workers. A worker of `reiestr serve --role worker` recalls expired service
// requests only when the driver says so.
func (r *registry) serve(ctx context.Context) (err error) {
	if r.program, err = program.Build(ctx, r.root, r.folder); err != nil {
		return err
	}
	for _, role := range []string{"api", "api", "worker", "worker"} {
		p := &instance{role: role}
		if err := r.start(ctx, p); err != nil {
			return err
		}
		r.processes = append(r.processes, p)
		if role == "api" {
			r.addresses = append(r.addresses, p.service.Address)
		}
	}
	return nil
}

// start starts the process, also in place of one that has ended.
func (r *registry) start(ctx context.Context, p *instance) error {
	s, err := program.Serve(ctx, r.program, p.role, r.served, r.folder+"/service.log",
		"REIESTR_EXPIRY_TIMES=never", "REIESTR_PRUNE_TIMES=never")
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.service = s
	return nil
}

// command carries out a command of the program.
func (r *registry) command(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, r.program, args...)
	cmd.Env = append(os.Environ(), "REIESTR_DATABASE_URL="+r.served)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("reiestr %s: %w: %s", args[0], err, said)
	}
	return nil
}

// close ends the processes and drops the database.
func (r *registry) close(server string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, p := range r.processes {
		if stopped := p.current().Stop(); stopped != nil {
			err = fmt.Errorf("a process does not stop in order: %w", stopped)
		}
	}
	if r.owner != nil {
		r.owner.Close()
	}
	if r.conn != nil {
		r.conn.Close(ctx) //nolint:errcheck // the database is dropped
	}
	conn, failed := testdb.Connect(ctx, server)
	if failed != nil {
		return failed
	}
	defer conn.Close(ctx)
	if _, failed := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+r.name+" WITH (FORCE)"); failed != nil {
		return failed
	}
	return err
}
