package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/internal/population"
)

// The pool that stage.sql makes: all service requests of these states, from the first on.
const (
	poolFirstState = 20
	poolStates     = 10
)

// benchTypes is how many types of licence stage.sql adds.
const benchTypes = 50

// stride is prime: rows of a pool are taken in steps of it, so that neighbours in time are no neighbours in the table.
const stride = 7919

// path is what a caller can ask for, three times over: as pgbench does it with the statements one by one in a transaction (steps), as
// pgbench does it the way the service sends them (sent), and over HTTP.
type path struct {
	name    string
	title   string
	goal    float64 // throughput of the service, as ratio to steps
	steps   string
	sent    string
	sentIs  string // what is special about sent
	request request
	status  int
	// done counts, for a path that writes, what has been carried out since the last restore; at most is how much there can be.
	done   string
	atMost int
}

// groups is how many groups of a hundred service requests there are, see population.Size.
func (c *cluster) groups() int { return c.size.ServiceRequests / 100 }

// pool is how many service requests can be released.
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

// ordinary is a group of which no requisition has a hundred service requests: whether p99 meets one would be luck.
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

// sqlID is population's id of the row whose ordinal is in a variable of pgbench.
func sqlID(kind, variable string) string {
	return "overlay(overlay(md5('" + kind + "' || :" + variable + "::text) placing '4' from 13) placing '8' from 17)::uuid"
}

// paths are all there are. Where the service comes to send its statements in another way, sent is to say so here.
func (c *cluster) paths(q queries, clients int) ([]path, error) {
	s := scripts{queries: q}
	authenticate := s.bound("Authenticate", binding{
		"token_hash": "sha256(convert_to('token' || :t::text, 'UTF8'))",
		"key_hash":   "sha256(convert_to('api_key' || (:t % 50 + 1)::text, 'UTF8'))",
		"as_of":      "NULL",
	}) + " \\gset auth_\n"

	judge := s.bound("JudgeRelease", binding{
		"ids":                 "ARRAY[gen_random_uuid()]",
		"service_request_ids": "ARRAY[" + sqlID("service_request", "n") + "]",
		"client_ids":          "ARRAY[:auth_client_id]",
	}) + " \\gset verdict_\n"
	enqueue := s.bound("EnqueueJobs", binding{
		"ids":                 "ARRAY[:verdict_id]",
		"actions":             "ARRAY['release']",
		"service_request_ids": "ARRAY[" + sqlID("service_request", "n") + "]",
		"patient_ids":         "ARRAY[:verdict_patient_id]",
		"client_ids":          "ARRAY[:auth_client_id]",
		"user_ids":            "ARRAY[:auth_user_id]",
		"bodies":              "ARRAY['{}']",
		"request_digests":     "ARRAY[sha256(convert_to('release' || :n::text, 'UTF8'))]",
		"trace_contexts":      "ARRAY['']",
	})
	poolRow := c.poolRow(clients)

	// Every client may have every type: the tokens one after the other, then the next type.
	licenseRow := fmt.Sprintf("\\set i :i + 1\n\\set k :i * %d + :client_id\n\\set t :k %% %[2]d + 1\n\\set type :k / %[2]d\n", clients, c.size.Tokens)
	lock := s.bound("LockLegalEntity", binding{"id": ":auth_client_id::uuid"})
	create := s.bound("CreateLicense", binding{
		"legal_entity_id":  ":auth_client_id::uuid",
		"type":             "('BENCH_' || :type::text)",
		"is_primary":       "false",
		"issued_by":        "'МОЗ України'",
		"issued_date":      "'2020-01-01'::date",
		"active_from_date": "'2020-01-01'::date",
		"expiry_date":      "NULL::date",
		"license_number":   "'АБ 1'",
		"what_licensed":    "'Медична практика'",
		"order_no":         "'1'",
		"user_id":          ":auth_user_id::uuid",
		"as_of":            "NULL",
		"time_zone":        "'Europe/Kyiv'",
	})

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
		"requisition": "overlay(overlay(overlay(upper(left(md5('requisition' || :r::text), 16))" +
			" placing '-' from 5 for 0) placing '-' from 10 for 0) placing '-' from 15 for 0)",
		"status":      "'active'",
		"page_size":   "50",
		"page_offset": "0",
	})

	jobRow := fmt.Sprintf("\\set n random(1, %d)\n\\set t (:n - 1) %% %d + 1\n", c.size.Jobs, c.size.Tokens)
	job := s.bound("GetJob", binding{"id": sqlID("job", "n"), "client_id": ":auth_client_id"})

	licensesRow := fmt.Sprintf("\\set t random(1, %d)\n", c.size.Tokens)
	licenses := s.bound("ListLicenses", binding{
		"legal_entity_id": ":auth_client_id", "id": "NULL", "license_number": "NULL", "type": "NULL", "is_primary": "NULL",
		"page_size": "50", "page_offset": "0",
	})

	const separately = "each statement a transaction and a round trip of its own"
	return []path{
		{
			name: "accept", title: "accept of `release` (202)", goal: 2.5,
			steps:  poolRow + steps(authenticate, judge, enqueue),
			sent:   poolRow + each(authenticate, judge, enqueue),
			sentIs: separately,
			request: func(b []byte, n int) []byte {
				row := c.pooled(n * stride % c.pool())
				return c.release(b, row)
			},
			status: http.StatusAccepted,
			done:   "SELECT count(*) FROM ops.jobs WHERE status = 'pending'",
			atMost: c.pool(),
		},
		{
			name: "license", title: "`POST /api/licenses` (201)", goal: 1.4,
			steps:   licenseRow + steps(authenticate, lock, create),
			sent:    licenseRow + each(authenticate) + pipelined(lock, create),
			sentIs:  "one round trip for the token, one for the transaction",
			request: c.createLicense,
			status:  http.StatusCreated,
			done:    `SELECT count(*) FROM prm.licenses WHERE type LIKE 'BENCH\_%'`,
			atMost:  c.size.Tokens * benchTypes,
		},
		{
			name: "search", title: "search by requisition", goal: 1.0,
			steps: searchRow + steps(authenticate, search), sent: searchRow + each(authenticate, search), sentIs: separately,
			request: func(b []byte, _ int) []byte { return c.search(b, c.active()) },
			status:  http.StatusOK,
		},
		{
			name: "job", title: "`GET /api/jobs/{id}`", goal: 0.9,
			steps: jobRow + steps(authenticate, job), sent: jobRow + each(authenticate, job), sentIs: separately,
			request: func(b []byte, _ int) []byte {
				n := 1 + rand.IntN(c.size.Jobs)
				b = append(b, "GET /api/jobs/"...)
				return c.as(appendID(b, population.Job(n)), (n-1)%c.size.Tokens+1)
			},
			status: http.StatusOK,
		},
		{
			name: "licenses", title: "`GET /api/licenses`", goal: 0.8,
			steps: licensesRow + steps(authenticate, licenses), sent: licensesRow + each(authenticate, licenses), sentIs: separately,
			request: func(b []byte, _ int) []byte {
				return c.as(append(b, "GET /api/licenses"...), 1+rand.IntN(c.size.Tokens))
			},
			status: http.StatusOK,
		},
	}, s.err
}

// workerSteps is how a worker would carry out one release without batches: statement by statement, in a transaction.
func workerSteps(q queries) (string, error) {
	s := scripts{queries: q}
	return steps(
		s.bound("ClaimJobs", binding{"failed_before": "false", "batch_size": "1"})+" \\gset job_\n",
		s.bound("LockServiceRequests", binding{"ids": "ARRAY[:job_service_request_id]"}),
		s.bound("JudgeRelease", binding{
			"ids": "ARRAY[:job_id]", "service_request_ids": "ARRAY[:job_service_request_id]", "client_ids": "ARRAY[:job_client_id]",
		})+" \\gset verdict_\n",
		s.bound("ReleaseServiceRequests", binding{"service_request_ids": "ARRAY[:job_service_request_id]", "user_ids": "ARRAY[:job_user_id]"}),
		s.bound("EndJobs", binding{"ids": "ARRAY[:job_id]", "refusals": "ARRAY[:verdict_refusal]"}),
	), s.err
}

// perform checks that a measurement of a path that writes has done what it says.
func (p path) verify(ctx context.Context, c *cluster, s sample) error {
	if p.done == "" {
		return nil
	}
	done, err := c.number(ctx, p.done)
	if wanted := min(s.total, p.atMost); err == nil && done != wanted {
		err = fmt.Errorf("%s: %d carried out, %d in the database", p.name, wanted, done)
	}
	return err
}

// as ends the head of a request without body: by whom it is made.
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

// release asks for the release of a service request, by its holder.
func (c *cluster) release(b []byte, row int) []byte {
	return c.as(action(b, population.ServiceRequest(row), "release"), c.size.Holder(row))
}

// search asks for the service requests of the requisition of one.
func (c *cluster) search(b []byte, row int) []byte {
	b = append(b, "GET /api/service_requests?requisition="...)
	return c.as(append(b, c.size.Requisition(row)...), 1+rand.IntN(c.size.Tokens))
}

func (c *cluster) createLicense(b []byte, n int) []byte {
	b = c.by(append(b, "POST /api/licenses"...), n%c.size.Tokens+1)
	return body(b, `{"type": "BENCH_`+strconv.Itoa(n/c.size.Tokens)+`", "is_primary": false, "issued_by": "МОЗ України", "issued_date": "2020-01-01", `+
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
