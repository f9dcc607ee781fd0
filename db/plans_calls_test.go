package db_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/db/sqlc"
	"github.com/reiestr/reiestr/internal/dev/population"
)

// call is a query with parameters as they come, on the standard population.
type call struct {
	variant string // what sets it apart from other calls of the query
	owner   bool   // who runs it
	// reads is how many rows it may read in addition to those it answers: what it looks up for each of a batch, what it
	// counts, what its filters pass over. It depends on the parameters and on nothing that grows with the registry.
	reads  float64
	writes float64 // rows it adds or changes
	batch  float64 // rows of a batch, where that is more than a page
	inside int     // statements of the function it calls, whose plans are part of its own
	do     func(context.Context, *sqlc.Queries)
}

// unplanned are the queries without a plan, and why.
var unplanned = map[string]string{
	"AddDictionaryValues": "COPY",
	"AddHistory":          "COPY",
	"AddServiceRequests":  "COPY",
	"LockBundles":         "LOCK TABLE",
}

// backlog is a database as it is when the workers have been away: jobs of new service requests, events to publish, old
// events that concern nobody and expired service requests.
const backlog = `
	INSERT INTO ops.jobs (id, action, service_request_id, patient_id, client_id, user_id, body, request_digest)
	SELECT gen_random_uuid(), 'use', s.id, s.patient_id, s.requester_legal_entity_id, s.inserted_by, '{}', sha256(uuid_send(s.id))
	FROM (SELECT * FROM medical_events.service_requests WHERE status = 'active' LIMIT 20000) AS s;
	INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, legal_entity_ids)
	SELECT 'ServiceRequest', j.service_request_id, '{"status": {}}', j.user_id, ARRAY[j.client_id] FROM ops.jobs j WHERE j.status = 'pending';
	INSERT INTO ops.events (entity_type, entity_id, properties, changed_by, event_time, legal_entity_ids)
	SELECT 'ServiceRequest', gen_random_uuid(), '{"status": {}}', gen_random_uuid(), now() - interval '90 days', '{}' FROM generate_series(1, 5000);
	UPDATE medical_events.service_requests SET expiration_date = expiration_date - interval '10 years'
	WHERE id = ANY (ARRAY(SELECT j.service_request_id FROM ops.jobs j WHERE j.status = 'pending'))`

var everyAction = []string{"complete", "process", "release", "use"}

const (
	plansBatch = 100 // jobs of a worker's transaction
	plansPage  = 100 // the longest page of service requests
	histories  = 9   // rows a service request has at most
)

// calls are all queries but the unplanned ones, each as often as it has plans.
func calls() []call {
	size := population.Standard
	first := func(state population.State, from int) int {
		for n := from; ; n++ {
			if size.StateOf(n) == state {
				return n
			}
		}
	}
	// of lists so many service requests of a state, and the legal entities and users that act on them.
	type errands struct {
		ids, requests, clients, users, patients []uuid.UUID
		bodies, digests                         [][]byte
		actions, texts                          []string
	}
	of := func(state population.State, body string) (e errands) {
		for n := 0; len(e.ids) < plansBatch; n += 9_973 {
			n = first(state, n+1)
			entity := size.Caller(size.Holder(n))
			digest := sha256.Sum256(fmt.Append(nil, n))
			if body == "use" {
				e.bodies = append(e.bodies, fmt.Appendf(nil,
					`{"used_by_legal_entity": %q, "used_by_employee": %q, "used_by_division": %q}`,
					population.LegalEntity(entity), population.Employee(entity), population.Division(entity)))
			} else {
				e.bodies = append(e.bodies, []byte(body))
			}
			e.ids = append(e.ids, population.Job(len(e.ids)+1))
			e.requests = append(e.requests, population.ServiceRequest(n))
			e.clients = append(e.clients, population.LegalEntity(entity))
			e.users = append(e.users, population.User(size.Holder(n)))
			e.patients = append(e.patients, size.Patient(n))
			e.digests = append(e.digests, digest[:])
			e.actions = append(e.actions, "use")
			e.texts = append(e.texts, "")
		}
		return e
	}
	free, queued, working := of(population.New, "use"), of(population.InQueue, "{}"), of(population.InProgress,
		`{"completed_with": {}, "program_service": "00000000-0000-4000-8000-000000000000", "status_reason": {"coding": [{"code": "default"}]}}`)
	hash := func(secret string) []byte {
		sum := sha256.Sum256([]byte(secret))
		return sum[:]
	}
	entity := size.Caller(size.Tokens - 1) // has additional licences
	licenses := make([]string, plansBatch) // of legal entities that have the primary one only
	for i := range licenses {
		licenses[i] = fmt.Sprintf(`{"legal_entity_id": %q, "type": "PHARMACY_DRUGS", "is_primary": false, "issued_by": "МОЗ", "issued_date": "2020-01-01",
			"active_from_date": "2020-01-01", "user_id": %q}`, population.LegalEntity(size.Caller(size.Tokens-2*i)),
			population.User(1))
	}
	one, user, long := population.LegalEntity(entity), population.User(1), time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	ordinary := size.ServiceRequests/2 + 90*size.ServiceRequests/100/1000 + 17
	set := func(id uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: id, Valid: true} }

	return []call{
		// access.sql
		{reads: 2, do: func(ctx context.Context, q *sqlc.Queries) {
			q.Authenticate(ctx, sqlc.AuthenticateParams{TokenHash: hash(population.Token(7)),
				KeyHash: hash(population.APIKey(7))})
		}},
		{reads: 1, do: func(ctx context.Context, q *sqlc.Queries) { q.CheckAPIKey(ctx, hash(population.APIKey(7))) }},
		{owner: true, reads: 1, do: func(ctx context.Context, q *sqlc.Queries) { q.CheckClient(ctx, one) }},
		{owner: true, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.IssueAPIKey(ctx, sqlc.IssueAPIKeyParams{KeyHash: hash("new"), Name: "MIS"})
		}},
		{owner: true, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.IssueToken(ctx, sqlc.IssueTokenParams{TokenHash: hash("new"), UserID: user, ClientID: one,
				Scopes: []string{"job:read"}, TTLSeconds: 60})
		}},
		{owner: true, reads: 1, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.RevokeAPIKey(ctx, hash(population.APIKey(7)))
		}},
		{owner: true, reads: 1, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.RevokeToken(ctx, hash(population.Token(7)))
		}},

		// bundle.sql
		{owner: true, reads: 100, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ListDictionaryCodes(ctx, "EMPLOYEE_TYPE")
		}},
		{owner: true, reads: plansBatch, do: func(ctx context.Context, q *sqlc.Queries) {
			q.LockLegalEntitiesOfBundle(ctx, free.clients)
		}},
		{owner: true, reads: plansBatch, do: func(ctx context.Context, q *sqlc.Queries) {
			q.LockServiceRequestsOfBundle(ctx, free.requests)
		}},
		{owner: true, reads: 100, writes: 20, do: func(ctx context.Context, q *sqlc.Queries) {
			q.RemoveDictionaryValues(ctx, []string{"EMPLOYEE_TYPE"})
		}},
		{owner: true, reads: 2 * plansBatch * histories, writes: plansBatch * histories,
			do: func(ctx context.Context, q *sqlc.Queries) { q.RemoveHistory(ctx, free.requests) }},
		{owner: true, reads: 1, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ReplaceDictionaries(ctx, []sqlc.ReplaceDictionariesParams{{Name: "EMPLOYEE_TYPE", IsActive: true,
				Labels: []string{}}})
		}},
		{owner: true, reads: 1, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ReplaceDivisions(ctx, []sqlc.ReplaceDivisionsParams{{ID: population.Division(entity), LegalEntityID: one,
				Status: "ACTIVE"}})
		}},
		{owner: true, reads: 1, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ReplaceEmployees(ctx, []sqlc.ReplaceEmployeesParams{{ID: population.Employee(entity), LegalEntityID: one,
				Status: "APPROVED"}})
		}},
		{owner: true, reads: 1, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ReplaceLegalEntities(ctx, []sqlc.ReplaceLegalEntitiesParams{{ID: one, Type: "OUTPATIENT", Status: "ACTIVE"}})
		}},
		{owner: true, reads: 1, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ReplaceLicenses(ctx, []sqlc.ReplaceLicensesParams{{ID: population.License(entity), LegalEntityID: one, Type: "MSP",
				IsPrimary: true}})
		}},
		{owner: true, reads: 1, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ReplaceParameters(ctx, []sqlc.ReplaceParametersParams{{Name: "release_requires_holder", Value: []byte("true")}})
		}},
		{owner: true, reads: 1, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ReplaceServiceRequests(ctx, []sqlc.ReplaceServiceRequestsParams{{ID: free.requests[0], Status: "active",
				Content: []byte("{}"), ExpirationDate: long}})
		}},
		{owner: true, reads: 1, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.SetLicensesAside(ctx, []uuid.UUID{population.License(size.LegalEntities + 1)})
		}},
		{owner: true, do: func(ctx context.Context, q *sqlc.Queries) { q.StartBundle(ctx, nil) }},

		// dictionaries.sql
		{reads: 100, do: func(ctx context.Context, q *sqlc.Queries) { q.ListActiveCodes(ctx, "LICENSE_TYPE") }},
		{reads: 200, do: func(ctx context.Context, q *sqlc.Queries) { q.ListDictionaries(ctx) }},

		// events.sql
		{reads: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.GetEvent(ctx, sqlc.GetEventParams{ID: uuid.New(), LegalEntityID: one})
		}},
		{reads: 1, do: func(ctx context.Context, q *sqlc.Queries) { q.GetEventHorizon(ctx, one) }},
		{reads: 1, do: func(ctx context.Context, q *sqlc.Queries) { q.HasUnpublishedEvents(ctx) }},
		{reads: 50, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ListEvents(ctx, sqlc.ListEventsParams{LegalEntityID: one, PageSize: 50})
		}},
		{variant: "near the end", reads: 300, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ListEvents(ctx, sqlc.ListEventsParams{LegalEntityID: one, FromPosition: int64(size.Jobs) * 19 / 10, PageSize: 300})
		}},
		{reads: 50, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ListEventsByTime(ctx, sqlc.ListEventsByTimeParams{LegalEntityID: one, PageSize: 50})
		}},
		{do: func(ctx context.Context, q *sqlc.Queries) { q.LockPublication(ctx) }},
		// A thousand places of five hundred events, and their horizons; a thousand events that concern nobody.
		{reads: 3*1000 + 2*500 + 2*1000, writes: 2*1000 + 500 + 1000, batch: 1000, inside: 2,
			do: func(ctx context.Context, q *sqlc.Queries) {
				q.PruneEvents(ctx, sqlc.PruneEventsParams{RetentionSeconds: month.Events.Seconds(), BatchSize: 1000})
			}},
		{reads: 3 * 1000, writes: 2 * 1000, batch: 1000,
			do: func(ctx context.Context, q *sqlc.Queries) { q.PublishEvents(ctx, 1000) }},

		// idempotency.sql
		{reads: 3, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ClaimIdempotencyKey(ctx, sqlc.ClaimIdempotencyKeyParams{
				ClientID: one, Key: "new", UserKey: "user new", StandInKey: "new", RequestDigest: hash("new"), LeaseSeconds: 60,
				KeptSeconds: 86400,
			})
		}},
		{reads: 2 * 1000, writes: 1000, batch: 1000, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ForgetIdempotencyKeys(ctx, sqlc.ForgetIdempotencyKeysParams{KeptSeconds: 43200, BatchSize: 1000})
		}},
		{reads: 1, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.FreeIdempotencyKey(ctx, sqlc.FreeIdempotencyKeyParams{ClientID: one, UserKey: "user key-1"})
		}},
		{reads: 1, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.KeepIdempotentAnswer(ctx, sqlc.KeepIdempotentAnswerParams{ClientID: one, UserKey: "user key-1", Code: 200,
				Header: []byte("{}"), Body: []byte("{}")})
		}},

		// jobs.sql
		// Of each job also the oldest of its service request, and the service request itself.
		{reads: 3 * plansBatch, writes: 2 * plansBatch, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ClaimJobs(ctx, sqlc.ClaimJobsParams{Actions: everyAction, WalkSize: 10_000, BatchSize: plansBatch})
		}},
		{reads: 3, writes: 2, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ClaimRepeatedJobs(ctx, sqlc.ClaimRepeatedJobsParams{Actions: everyAction, WalkSize: 10_000, BatchSize: 1})
		}},
		{reads: 1, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.CountJobAttempt(ctx, sqlc.CountJobAttemptParams{ID: population.Job(1), PauseSeconds: 1, MostAttempts: 5})
		}},
		{reads: plansBatch, writes: plansBatch, do: func(ctx context.Context, q *sqlc.Queries) {
			q.EndJobs(ctx, sqlc.EndJobsParams{Ids: free.ids, Refusals: free.texts})
		}},
		{reads: plansBatch, writes: plansBatch, do: func(ctx context.Context, q *sqlc.Queries) {
			ids := make([]uuid.UUID, plansBatch)
			for i := range ids {
				ids[i] = population.Job(size.Jobs + 1 + i)
			}
			q.EnqueueJobs(ctx, sqlc.EnqueueJobsParams{
				Ids: ids, Actions: free.actions, ServiceRequestIds: free.requests, PatientIds: free.patients,
				ClientIds: free.clients, UserIds: free.users,
				Bodies: free.bodies, RequestDigests: free.digests, Places: make([]int32, plansBatch), TraceContexts: free.texts,
				MostPending: 20,
			})
		}},
		{reads: 2 * plansBatch, do: func(ctx context.Context, q *sqlc.Queries) {
			q.FindPendingJobs(ctx, sqlc.FindPendingJobsParams{Ids: free.ids, ServiceRequestIds: free.requests,
				RequestDigests: free.digests})
		}},
		{reads: 2, do: func(ctx context.Context, q *sqlc.Queries) {
			q.GetJob(ctx, sqlc.GetJobParams{ID: population.Job(7), ClientID: population.LegalEntity(size.Caller(7))})
		}},
		{owner: true, reads: 2 * 50, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ListJobs(ctx, sqlc.ListJobsParams{SizeLimit: 50})
		}},
		{reads: 101, do: func(ctx context.Context, q *sqlc.Queries) { q.MeasureJobs(ctx) }},
		{reads: 100_001, do: func(ctx context.Context, q *sqlc.Queries) { q.MeasureQueue(ctx) }},
		{reads: 1, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.PostponeJob(ctx, sqlc.PostponeJobParams{ID: population.Job(1), LeastSeconds: 1, MostSeconds: 30})
		}},
		{reads: 2 * 1000, writes: 1000, batch: 1000, inside: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.PruneJobs(ctx, sqlc.PruneJobsParams{RetentionSeconds: month.Jobs.Seconds(), BatchSize: 1000})
		}},
		{owner: true, reads: 1, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.RetryJob(ctx, population.Job(2000))
		}},
		{owner: true, reads: 1, do: func(ctx context.Context, q *sqlc.Queries) { q.ShowJob(ctx, population.Job(7)) }},

		// legal_entities.sql
		{reads: 2 * plansBatch, do: func(ctx context.Context, q *sqlc.Queries) { q.LockLegalEntities(ctx, free.clients) }},

		// licenses.sql: what a legal entity has is some licences, so the rules may look through them.
		{reads: 20 * plansBatch, writes: 2 * plansBatch, do: func(ctx context.Context, q *sqlc.Queries) {
			q.CreateLicenses(ctx, sqlc.CreateLicensesParams{Licenses: []byte("[" + strings.Join(licenses, ", ") + "]"),
				TimeZone: "Europe/Kyiv"})
		}},
		{reads: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.GetLicense(ctx, sqlc.GetLicenseParams{ID: population.License(entity), LegalEntityID: one})
		}},
		{reads: 20, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ListLicenses(ctx, sqlc.ListLicensesParams{LegalEntityID: one, PageSize: 300})
		}},
		{variant: "filtered", reads: 20, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ListLicenses(ctx, sqlc.ListLicensesParams{
				LegalEntityID: one, LicenseNumber: new("АБ 000000001"), Type: new("MSP"),
				IsPrimary: pgtype.Bool{Bool: true, Valid: true}, PageSize: 50,
			})
		}},
		{variant: "by id", reads: 20, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ListLicenses(ctx, sqlc.ListLicensesParams{LegalEntityID: one, ID: set(population.License(entity)), PageSize: 50})
		}},
		{reads: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.LockLicense(ctx, sqlc.LockLicenseParams{ID: population.License(entity), LegalEntityID: one})
		}},
		{reads: 20, writes: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			n := size.LegalEntities + entity/2
			q.UpdateLicense(ctx, sqlc.UpdateLicenseParams{
				ID: population.License(n), LegalEntityID: one, TimeZone: "Europe/Kyiv", UserID: user,
				Changes: []byte(`{"type": "PHARMACY_DRUGS", "is_primary": false, "order_no": "Наказ № 1"}`),
			})
		}},

		// news.sql
		{reads: 2 * plansBatch, do: func(ctx context.Context, q *sqlc.Queries) {
			q.FindNews(ctx, sqlc.FindNewsParams{
				Ids:       append(free.ids[:plansBatch/2:plansBatch/2], free.clients[plansBatch/2:]...),
				Positions: make([]int64, plansBatch),
			})
		}},

		// operation.sql
		{reads: 100, do: func(ctx context.Context, q *sqlc.Queries) {
			q.CheckReadiness(ctx, sqlc.CheckReadinessParams{TimeZone: "Europe/Kyiv"})
		}},

		// service_requests.sql
		{reads: 2 * plansBatch, writes: 5 * plansBatch, do: func(ctx context.Context, q *sqlc.Queries) {
			q.CompleteServiceRequests(ctx, sqlc.CompleteServiceRequestsParams{
				ServiceRequestIds: working.requests, ClientIds: working.clients, UserIds: working.users, Bodies: working.bodies,
			})
		}},
		{reads: 3 * 500, writes: 4 * 500, batch: 500, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ExpireServiceRequests(ctx, sqlc.ExpireServiceRequestsParams{AfterExpirationDate: time.Unix(0, 0), BatchSize: 500,
				UserID: db.SystemUser})
		}},
		{reads: 1, do: func(ctx context.Context, q *sqlc.Queries) {
			q.FindExpiredServiceRequest(ctx, sqlc.FindExpiredServiceRequestParams{AfterExpirationDate: time.Unix(0, 0)})
		}},
		{reads: 1 + histories, do: func(ctx context.Context, q *sqlc.Queries) {
			q.GetServiceRequest(ctx, sqlc.GetServiceRequestParams{ID: population.ServiceRequest(ordinary),
				PatientID: size.Patient(ordinary)})
		}},
		{reads: 4*plansBatch + 100, do: func(ctx context.Context, q *sqlc.Queries) {
			q.JudgeComplete(ctx, sqlc.JudgeCompleteParams{Ids: working.ids, ServiceRequestIds: working.requests,
				ClientIds: working.clients, Bodies: working.bodies})
		}},
		{reads: 3 * plansBatch, do: func(ctx context.Context, q *sqlc.Queries) {
			q.JudgeProcess(ctx, sqlc.JudgeProcessParams{Ids: queued.ids, ServiceRequestIds: queued.requests,
				ClientIds: queued.clients})
		}},
		{reads: 3 * plansBatch, do: func(ctx context.Context, q *sqlc.Queries) {
			q.JudgeRelease(ctx, sqlc.JudgeReleaseParams{Ids: queued.ids, ServiceRequestIds: queued.requests,
				ClientIds: queued.clients})
		}},
		{variant: "of one", reads: 5, do: func(ctx context.Context, q *sqlc.Queries) {
			q.JudgeUse(ctx, sqlc.JudgeUseParams{Ids: free.ids[:1], ServiceRequestIds: free.requests[:1],
				ClientIds: free.clients[:1], Bodies: free.bodies[:1]})
		}},
		{variant: "of a batch", reads: 5 * plansBatch, do: func(ctx context.Context, q *sqlc.Queries) {
			q.JudgeUse(ctx, sqlc.JudgeUseParams{Ids: free.ids, ServiceRequestIds: free.requests, ClientIds: free.clients,
				Bodies: free.bodies})
		}},
		// Lists tell how many entries all pages have, so they look at what the patient or the requisition has, and at nothing
		// else.
		{reads: 4 + 4*histories, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ListServiceRequestsByRequisition(ctx, sqlc.ListServiceRequestsByRequisitionParams{
				Requisition: size.Requisition(ordinary), Status: "active", PageSize: plansPage,
			})
		}},
		{variant: "with a hundred", reads: 100 + plansPage*histories, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ListServiceRequestsByRequisition(ctx, sqlc.ListServiceRequestsByRequisitionParams{
				Requisition: size.Requisition(population.Busiest), Status: "active", PageSize: plansPage,
			})
		}},
		{reads: 20 + 20*histories, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ListServiceRequestsOfPatient(ctx, sqlc.ListServiceRequestsOfPatientParams{
				PatientID: size.Patient(ordinary), PageSize: plansPage,
			})
		}},
		{variant: "with a thousand", reads: 1000 + plansPage*histories, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ListServiceRequestsOfPatient(ctx, sqlc.ListServiceRequestsOfPatientParams{
				PatientID: size.Patient(population.Busiest), PageSize: plansPage,
			})
		}},
		{variant: "with a thousand, filtered", reads: 1000, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ListServiceRequestsOfPatient(ctx, sqlc.ListServiceRequestsOfPatientParams{
				PatientID: size.Patient(population.Busiest), Status: new("active"), UsedByLegalEntityID: set(one),
				PageSize: plansPage,
			})
		}},
		{reads: 2 * plansBatch, writes: 4 * plansBatch, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ProcessServiceRequests(ctx, sqlc.ProcessServiceRequestsParams{ServiceRequestIds: queued.requests,
				ClientIds: queued.clients, UserIds: queued.users})
		}},
		{reads: 2 * plansBatch, writes: 4 * plansBatch, do: func(ctx context.Context, q *sqlc.Queries) {
			q.ReleaseServiceRequests(ctx, sqlc.ReleaseServiceRequestsParams{ServiceRequestIds: queued.requests,
				UserIds: queued.users})
		}},
		{reads: 2 * plansBatch, writes: 6 * plansBatch, do: func(ctx context.Context, q *sqlc.Queries) {
			q.UseServiceRequests(ctx, sqlc.UseServiceRequestsParams{ServiceRequestIds: free.requests, UserIds: free.users,
				Bodies: free.bodies})
		}},
	}
}
