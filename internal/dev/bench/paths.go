package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/internal/dev/population"
)

// The pool of stage.sql holds all service requests of these states, counted from the first state.
const (
	poolFirstState = 20
	poolStates     = 10
)

// readLanes is the number of connections on which the service reads: half of its four.
const readLanes = 2

// benchTypes is the number of types of licence that stage.sql adds.
const benchTypes = 50

// stride is prime. Rows of a pool are taken in steps of stride, so that consecutive requests do not meet neighbouring
// rows.
const stride = 7919

// path is a request that is measured in three ways: by pgbench with its statements one by one in a transaction (steps),
// by pgbench with its statements as the service sends them (sent), and over HTTP.
type path struct {
	name  string
	title string
	goal  float64 // least throughput of the service in relation to steps
	steps string
	sent  string
	// connections is how many connections sent needs; batch is how many requests one transaction of sent serves.
	connections, batch int
	request            request
	status             int
	// done is a query for a path that writes: it counts the changes since the last restore. atMost is their largest
	// number.
	done   string
	atMost int
}

// groups is the number of groups of a hundred service requests (see population.Size).
func (c *cluster) groups() int { return c.size.ServiceRequests / 100 }

// pool is the number of service requests that can be released.
func (c *cluster) pool() int { return poolStates * c.groups() }

// pooled is the ordinal of the k-th service request of the pool; stage.sql and poolRow have the same formula.
func (c *cluster) pooled(k int) int {
	g := c.groups()
	return ((poolFirstState+k/g-k%g)%100+100)%100*g + k%g + 1
}

// poolRow sets n to the next service request of the pool and t to the token of its holder.
func (c *cluster) poolRow(clients int) string {
	return fmt.Sprintf(`\set i :i + 1
\set k (:i * %d + :client_id) * %d %% %d
\set n ((%d + :k / %[5]d - :k %% %[5]d) %% 100 + 100) %% 100 * %[5]d + :k %% %[5]d + 1
\set t (:n - 1) %% %[6]d + 1
`, clients, stride, c.pool(), poolFirstState, c.groups(), c.size.Tokens)
}

// ordinary is a random group without a requisition of a hundred service requests. Whether p99 meets such a requisition
// would be chance.
func (c *cluster) ordinary() int {
	if g := c.groups(); g < 100 {
		return 1 + rand.IntN(g-1)
	} else {
		return 100*rand.IntN(g/100) + 1 + rand.IntN(99)
	}
}

// active is the ordinal of a random active service request of an ordinary group.
func (c *cluster) active() int {
	group := c.ordinary()
	place := ((rand.IntN(activeStates)-group)%100 + 100) % 100
	return place*c.groups() + group + 1
}

// activeStates is the number of states in which a service request is active, the first of a hundred.
const activeStates = 50

// sqlID is the SQL for the id that population gives a row. n is an expression for the ordinal of the row, first is the
// id of the first row of its kind.
func sqlID(first uuid.UUID, n string) string {
	middle := first.String()[8:24]
	return fmt.Sprintf("(lpad(to_hex((%s)::bigint * 2654435761 %% 4294967296), 8, '0') || '%s' || "+
		"lpad(to_hex((%[1]s)::bigint), 12, '0'))::uuid", n, middle)
}

// sqlCaller is the SQL for the id of the legal entity of the n-th token.
func (c *cluster) sqlCaller(n string) string {
	return sqlID(population.LegalEntity(1), fmt.Sprintf("((%s) %% %d / 2) %% %d * 20 + 1 + (%[1]s) %% %[2]d %% 2", n,
		c.size.Tokens, c.size.LegalEntities/20))
}

// sqlRequisition is the SQL for the requisition that population gives a row. r is an expression for the place of the
// first service request with this requisition; a group has a hundred places.
func sqlRequisition(r string) string {
	return "to_char((" + r + `) * 2654435761 % 10000000000000000, 'FM0000"-"0000"-"0000"-"0000')`
}

// compare checks the formulas of the scripts against those of population, of which they are a copy in SQL.
func (c *cluster) compare(ctx context.Context) error {
	g := c.groups()
	for k := range 100 {
		n := c.pooled(k * stride % c.pool())
		if n%2 == 0 {
			n = c.active()
		}
		r := (n-1)%g*100 + (n-1)/g
		switch place := (n - 1) / g; {
		case (n-1)%g%100 == 0:
			r -= place
		case place >= 80:
			r -= place % 4
		}
		var request, job, user, caller uuid.UUID
		var requisition string
		err := c.conn.QueryRow(ctx, "SELECT "+strings.Join([]string{
			sqlID(population.ServiceRequest(1), "n"), sqlID(population.Job(1), "n"), sqlID(population.User(1), "n"),
			c.sqlCaller("n"), sqlRequisition("r"),
		}, ", ")+" FROM (SELECT $1::bigint AS n, $2::bigint AS r) AS asked", n, r).Scan(&request, &job, &user, &caller,
			&requisition)
		if err != nil {
			return err
		}
		if request != population.ServiceRequest(n) || job != population.Job(n) || user != population.User(n) ||
			caller != population.LegalEntity(c.size.Caller(n)) || requisition != c.size.Requisition(n) {
			return fmt.Errorf("the formulas of the scripts are not those of the population: see row %d", n)
		}
	}
	return nil
}

// paths are all paths. If the service begins to send its statements in another way, change sent here too. The service
// remembers the rights of a token, so sent leaves their query out.
func (c *cluster) paths(q queries, clients int) ([]path, error) {
	s := scripts{queries: q}
	authenticate := s.bound("Authenticate", binding{
		"token_hash": "sha256(convert_to('token' || :t::text, 'UTF8'))",
		"key_hash":   "sha256(convert_to('api_key' || (:t % 50 + 1)::text, 'UTF8'))",
		"as_of":      "NULL",
	}) + " \\gset auth_\n"
	caller := c.sqlCaller(":t::bigint")

	serviceRequest := sqlID(population.ServiceRequest(1), ":n")
	judge := s.bound("JudgeRelease", binding{
		"ids":                 "ARRAY[gen_random_uuid()]",
		"service_request_ids": "ARRAY[" + serviceRequest + "]",
		"client_ids":          "ARRAY[:auth_client_id]",
	}) + " \\gset verdict_\n"
	enqueue := s.bound("EnqueueJobs", binding{
		"ids":                 "ARRAY[:verdict_id]",
		"actions":             "ARRAY['release']",
		"service_request_ids": "ARRAY[" + serviceRequest + "]",
		"patient_ids":         "ARRAY[:verdict_patient_id]",
		"client_ids":          "ARRAY[:auth_client_id]",
		"user_ids":            "ARRAY[:auth_user_id]",
		"bodies":              "ARRAY['{}']",
		"request_digests":     "ARRAY[sha256(convert_to('release' || :n::text, 'UTF8'))]",
		"trace_contexts":      "ARRAY['']",
		"places":              "ARRAY[1]",
		"most_pending":        "20",
	})
	// Acceptances that arrive at the same time share their statements and one connection. So sent has one connection, and
	// its batch is the number of clients.
	together := func(value string) string {
		g := c.groups()
		return fmt.Sprintf(`ARRAY(SELECT %s FROM (SELECT ((%d + k / %[3]d - k %% %[3]d) %% 100 + 100) %% 100 * %[3]d + k %%
			%[3]d + 1 AS n
	FROM (SELECT (:i::bigint * %[4]d + m) * %[5]d %% %[6]d AS k FROM generate_series(0, %[4]d - 1) m) AS taken) AS taken)`,
			value, poolFirstState, g, clients, stride, c.pool())
	}
	serviceRequests, callers := together(sqlID(population.ServiceRequest(1), "n")), together(c.sqlCaller("n"))
	judgeTogether := s.bound("JudgeRelease", binding{
		"ids": together("gen_random_uuid()"), "service_request_ids": serviceRequests, "client_ids": callers,
	})
	enqueueTogether := s.bound("EnqueueJobs", binding{
		"ids":                 together("gen_random_uuid()"),
		"actions":             together("'release'::text"),
		"service_request_ids": serviceRequests,
		"patient_ids":         together("gen_random_uuid()"),
		"client_ids":          callers,
		"user_ids":            together(sqlID(population.User(1), fmt.Sprintf("(n - 1) %% %d + 1", c.size.Tokens))),
		"bodies":              together("'{}'::text"),
		"places":              together("1"),
		"most_pending":        "20",
		"request_digests":     together("sha256(convert_to('release' || n, 'UTF8'))"),
		"trace_contexts":      together("''::text"),
	})
	poolRow := c.poolRow(clients)

	// Every client can have every type: first one licence for each token, then the next type.
	licenseRow := fmt.Sprintf("\\set i :i + 1\n\\set k :i * %d + :client_id\n\\set t :k %% %[2]d + 1\n\\set type :k / "+
		"%[2]d\n", clients, c.size.Tokens)
	license := func(client, kind, user string) string {
		return `'{"legal_entity_id": "' || ` + client + ` || '", "type": "BENCH_' || ` + kind +
			` || '", "is_primary": false, "issued_by": "МОЗ України", ` +
			`"issued_date": "2020-01-01", "active_from_date": "2020-01-01", "license_number": "АБ 1", ` +
			`"what_licensed": "Медична практика", "order_no": "1", "user_id": "' || ` + user + ` || '"}'`
	}
	create := func(licenses string) string {
		return s.bound("CreateLicenses", binding{"licenses": "('[' || " + licenses + " || ']')", "as_of": "NULL",
			"time_zone": "'Europe/Kyiv'"})
	}
	lock := s.bound("LockLegalEntities", binding{"ids": "ARRAY[:auth_client_id::uuid]"})
	createOne := create(license(":auth_client_id", ":type::text", ":auth_user_id"))
	// Creations that arrive at the same time share their statements too.
	groupRows := fmt.Sprintf("(SELECT k %% %d + 1 AS t, k / %[1]d AS kind FROM (SELECT :i::bigint * %d + m AS k FROM "+
		"generate_series(0, %[2]d - 1) m) AS taken) AS taken",
		c.size.Tokens, clients)
	lockTogether := s.bound("LockLegalEntities", binding{"ids": "ARRAY(SELECT " + c.sqlCaller("t") + " FROM " + groupRows +
		")"})
	createTogether := create("(SELECT string_agg(" + license(c.sqlCaller("t"), "kind", sqlID(population.User(1), "t")) +
		", ',') FROM " + groupRows + ")")

	// Reads that arrive at the same time share a round trip, on half of the connections of the service.
	togetherRead := func(row, query string) string {
		return "\\startpipeline\n" + strings.Repeat(row+each(query), max(1, clients/readLanes)) + "\\endpipeline\n"
	}

	group := fmt.Sprintf("random(1, %d)", c.groups()-1)
	if c.groups() >= 100 {
		group = fmt.Sprintf("100 * random(0, %d) + random(1, 99)", c.groups()/100-1)
	}
	searchRow := fmt.Sprintf(`\set g %s
\set place ((random(0, %d) - :g) %% 100 + 100) %% 100
\set r :g * 100 + CASE WHEN :place >= 80 THEN :place / 4 * 4 ELSE :place END
\set t random(1, %d)
`, group, activeStates-1, c.size.Tokens)
	search := s.bound("ListServiceRequestsByRequisition", binding{
		"requisition": sqlRequisition(":r::bigint"),
		"status":      "'active'",
		"page_size":   "50",
		"page_offset": "0",
	})

	jobRow := fmt.Sprintf("\\set n random(1, %d)\n\\set t (:n - 1) %% %d + 1\n", c.size.Jobs, c.size.Tokens)
	job := func(client string) string {
		return s.bound("GetJob", binding{"id": sqlID(population.Job(1), ":n"), "client_id": client})
	}

	licensesRow := fmt.Sprintf("\\set t random(1, %d)\n", c.size.Tokens)
	licenses := func(client string) string {
		return s.bound("ListLicenses", binding{
			"legal_entity_id": client, "id": "NULL", "license_number": "NULL", "type": "NULL", "is_primary": "NULL",
			"page_size": "50", "page_offset": "0",
		})
	}

	const client = ":auth_client_id::uuid"
	return []path{
		{
			name: "accept", title: "accept of `release` (202)", goal: 2.5,
			steps:       poolRow + steps(authenticate, judge, enqueue),
			sent:        "\\set i :i + 1\n" + each(judgeTogether, enqueueTogether),
			connections: 1, batch: clients,
			request: c.releaseNext,
			status:  http.StatusAccepted,
			done:    "SELECT count(*) FROM ops.jobs WHERE status = 'pending'",
			atMost:  c.pool(),
		},
		{
			name: "license", title: "`POST /api/licenses` (201)", goal: 1.4,
			steps:       licenseRow + steps(authenticate, lock, createOne),
			sent:        "\\set i :i + 1\n" + pipelined("begin", lockTogether) + pipelined(createTogether, "commit"),
			connections: 1, batch: clients,
			request: c.createLicense,
			status:  http.StatusCreated,
			done:    `SELECT count(*) FROM prm.licenses WHERE type LIKE 'BENCH\_%'`,
			atMost:  c.size.Tokens * benchTypes,
		},
		{
			name: "search", title: "search by requisition", goal: 1.0,
			steps:       searchRow + steps(authenticate, search),
			sent:        togetherRead(searchRow, search),
			connections: readLanes, batch: max(1, clients/readLanes),
			request: func(b []byte, _, _ int) []byte { return c.search(b, c.active(), 1+rand.IntN(c.size.Tokens)) },
			status:  http.StatusOK,
		},
		{
			name: "job", title: "`GET /api/jobs/{id}`", goal: 0.9,
			steps:       jobRow + steps(authenticate, job(client)),
			sent:        togetherRead(jobRow, job(caller)),
			connections: readLanes, batch: max(1, clients/readLanes),
			request: func(b []byte, _, _ int) []byte {
				n := 1 + rand.IntN(c.size.Jobs)
				b = append(b, "GET /api/jobs/"...)
				return c.as(appendID(b, population.Job(n)), (n-1)%c.size.Tokens+1)
			},
			status: http.StatusOK,
		},
		{
			name: "licenses", title: "`GET /api/licenses`", goal: 0.8,
			steps:       licensesRow + steps(authenticate, licenses(client)),
			sent:        togetherRead(licensesRow, licenses(caller)),
			connections: readLanes, batch: max(1, clients/readLanes),
			request: func(b []byte, _, _ int) []byte {
				return c.as(append(b, "GET /api/licenses"...), 1+rand.IntN(c.size.Tokens))
			},
			status: http.StatusOK,
		},
	}, s.err
}

// workerSteps are the statements of a worker without batches: it carries out one release, statement by statement, in
// one transaction.
func workerSteps(q queries) (string, error) {
	s := scripts{queries: q}
	return steps(
		s.bound("ClaimJobs", binding{
			"actions": "ARRAY['use', 'release', 'process', 'complete']", "walk_size": "10000", "batch_size": "1",
		})+" \\gset job_\n",
		s.bound("JudgeRelease", binding{
			"ids": "ARRAY[:job_id]", "service_request_ids": "ARRAY[:job_service_request_id]",
			"client_ids": "ARRAY[:job_client_id]",
		})+" \\gset verdict_\n",
		s.bound("ReleaseServiceRequests", binding{"service_request_ids": "ARRAY[:job_service_request_id]",
			"user_ids": "ARRAY[:job_user_id]"}),
		s.bound("EndJobs", binding{"ids": "ARRAY[:job_id]", "refusals": "ARRAY[:verdict_refusal]"}),
	), s.err
}

// verify checks that the measurement of a path that writes has made its changes. If more than half of all possible
// changes are asked for, a fast client of pgbench may repeat changes that were made before: then half of them must be
// in the database.
func (p path) verify(ctx context.Context, c *cluster, s sample) error {
	if p.done == "" {
		return nil
	}
	done, err := c.number(ctx, p.done)
	if err == nil && done != s.total && (s.total <= p.atMost/2 || done <= p.atMost/2) {
		err = fmt.Errorf("%s: %d carried out, %d in the database", p.name, s.total, done)
	}
	return err
}

// as ends the head of a request without body: it adds the headers of the caller.
func (c *cluster) as(b []byte, token int) []byte { return append(c.by(b, token), "\r\n"...) }

func (c *cluster) by(b []byte, token int) []byte {
	b = append(b, " HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer token"...)
	b = strconv.AppendInt(b, int64(token), 10)
	b = append(b, "\r\napi-key: api_key"...)
	b = strconv.AppendInt(b, int64(token%50+1), 10)
	return append(b, "\r\n"...)
}

// body ends a request with a JSON body.
func body(b []byte, text string) []byte {
	b = append(b, "Content-Type: application/json\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(text)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, text...)
}

// release is the request to release a service request, by its holder.
func (c *cluster) release(b []byte, row int) []byte {
	return c.as(action(b, population.ServiceRequest(row), "release"), c.size.Holder(row))
}

// releaseNext is the request to release the next service request of the pool.
func (c *cluster) releaseNext(b []byte, _, n int) []byte {
	return c.release(b, c.pooled(n*stride%c.pool()))
}

// use is the request to use a service request for the legal entity of a token; it waits for the outcome.
func (c *cluster) use(b []byte, id uuid.UUID, token int) []byte {
	holder := c.size.Caller(token)
	b = append(c.by(action(b, id, "use"), token), "Prefer: wait=30\r\n"...)
	return body(b, fmt.Sprintf(`{"used_by_legal_entity": {"identifier": {"value": %q}}, `+
		`"used_by_division": {"identifier": {"value": %q}}}`,
		population.LegalEntity(holder), population.Division(holder)))
}

// cycle makes each client release a service request, wait for the outcome, use it again, wait for the outcome, and go
// on to the next one. Each client has service requests of its own.
func (c *cluster) cycle(clients int) request {
	asked := make([]int, clients)
	return func(b []byte, client, _ int) []byte {
		turn := asked[client]
		asked[client]++
		row := c.pooled(client + clients*(turn/2%(c.pool()/clients)))
		if turn%2 == 1 {
			return c.use(b, population.ServiceRequest(row), c.size.Holder(row))
		}
		b = c.by(action(b, population.ServiceRequest(row), "release"), c.size.Holder(row))
		return append(b, "Prefer: wait=30\r\n\r\n"...)
	}
}

// search is the request for the service requests with the requisition of a row.
func (c *cluster) search(b []byte, row, token int) []byte {
	b = append(b, "GET /api/service_requests?requisition="...)
	return c.as(append(b, c.size.Requisition(row)...), token)
}

func (c *cluster) createLicense(b []byte, _, n int) []byte {
	b = c.by(append(b, "POST /api/licenses"...), n%c.size.Tokens+1)
	return body(b, `{"type": "BENCH_`+strconv.Itoa(n/c.size.Tokens)+
		`", "is_primary": false, "issued_by": "МОЗ України", "issued_date": "2020-01-01", `+
		`"active_from_date": "2020-01-01", "license_number": "АБ 1", "what_licensed": "Медична практика", "order_no": "1"}`)
}

func action(b []byte, id uuid.UUID, name string) []byte {
	b = append(b, "PATCH /api/service_requests/"...)
	b = append(appendID(b, id), "/actions/"...)
	return append(b, name...)
}

func appendID(b []byte, id uuid.UUID) []byte {
	text, _ := id.MarshalText() // never fails
	return append(b, text...)
}
