package api_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/oapi-codegen/runtime/types"

	"github.com/reiestr/reiestr/client"
)

// client is the generated client, with the credentials of the clinic.
func (s *service) client() *client.ClientWithResponses {
	s.t.Helper()
	c, err := client.New(s.url, s.token, s.key)
	must(s.t, err)
	return c
}

func date(text string) types.Date {
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		panic(err)
	}
	return types.Date{Time: day}
}

// TestClientCreatesLicense drives the creation of a licence with the generated client: each kind of answer has its
// type.
func TestClientCreatesLicense(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c := s.client()
	number := "АЕ 1"
	body := client.LicenseCreation{
		Type: "PHARMACY_DRUGS", IssuedBy: "Держлікслужба", IssuedDate: date("2022-01-01"),
		ActiveFromDate: date("2022-02-02"), LicenseNumber: &number,
	}

	missing, err := c.CreateLicenseWithResponse(t.Context(), nil, body)
	must(t, err)
	if f := missing.JSON404; f == nil || f.Error.Type != client.FaultTypeNotFound ||
		f.Error.Message != "No active primary license found for legal entity" || f.Error.Invalid != nil {
		t.Errorf("without a primary licence: %s %s", missing.Status(), missing.Body)
	}

	s.primaryLicense(s.clinic)
	created, err := c.CreateLicenseWithResponse(t.Context(), nil, body)
	must(t, err)
	if created.JSON201 == nil {
		t.Fatalf("%s %s", created.Status(), created.Body)
	}
	l := created.JSON201.Data
	if l.Type != body.Type || l.IsPrimary || !l.IsActive || l.LegalEntityId != s.clinic || l.InsertedBy != s.user ||
		!l.IssuedDate.Equal(body.IssuedDate.Time) ||
		l.LicenseNumber == nil || *l.LicenseNumber != number || l.ExpiryDate != nil || l.IssuerStatus != nil {
		t.Errorf("created %+v", l)
	}
	if created.JSON201.Meta.Code != 201 || created.Headers201.XRequestId != created.JSON201.Meta.RequestId {
		t.Errorf("meta %+v, headers %+v", created.JSON201.Meta, created.Headers201)
	}

	again, err := c.CreateLicenseWithResponse(t.Context(), nil, body)
	must(t, err)
	if f := again.JSON409; f == nil || f.Error.Type != client.FaultTypeRequestConflict ||
		f.Error.Message != "License with type PHARMACY_DRUGS is already present" {
		t.Errorf("once more: %s %s", again.Status(), again.Body)
	}

	body.IssuedDate, body.Type = date("2022-03-03"), "PHARMACY_DRUGS"
	s.sql(`DELETE FROM prm.licenses WHERE NOT is_primary`)
	late, err := c.CreateLicenseWithResponse(t.Context(), nil, body)
	must(t, err)
	if f := late.JSON422; f == nil || f.Error.Invalid == nil || (*f.Error.Invalid)[0].Entry != "$.issued_date" ||
		(*f.Error.Invalid)[0].Rules[0].Rule != client.RuleRuleInvalid {
		t.Errorf("issued too late: %s %s", late.Status(), late.Body)
	}

	malformed, err := c.CreateLicenseWithBodyWithResponse(t.Context(), nil, "application/json", strings.NewReader("{"))
	must(t, err)
	if f := malformed.JSON400; f == nil || f.Error.Type != client.FaultTypeRequestMalformed {
		t.Errorf("half a body: %s %s", malformed.Status(), malformed.Body)
	}

	s.token = s.issue(s.clinic, "job:read", time.Hour)
	poor, err := s.client().CreateLicenseWithResponse(t.Context(), nil, body)
	must(t, err)
	if poor.JSON403 == nil ||
		poor.Headers403.WWWAuthenticate != `Bearer error="insufficient_scope", scope="license:write"` {
		t.Errorf("without the scope: %s %s", poor.Status(), poor.Body)
	}
	s.token = "guess"
	unknown, err := s.client().CreateLicenseWithResponse(t.Context(), nil, body)
	must(t, err)
	if unknown.JSON401 == nil || unknown.Headers401.WWWAuthenticate != `Bearer realm="reiestr", error="invalid_token"` {
		t.Errorf("unknown token: %s %s", unknown.Status(), unknown.Body)
	}
}

// TestClientReserves drives a service request through its reservation and back with the generated client.
func TestClientReserves(t *testing.T) {
	t.Parallel()
	s := newService(t).work()
	c := s.client()
	patient, id := s.serviceRequest("new", uuid.NullUUID{})
	read := func() client.ServiceRequest {
		t.Helper()
		got, err := c.GetServiceRequestWithResponse(t.Context(), patient, id)
		must(t, err)
		if got.JSON200 == nil {
			t.Fatalf("%s %s", got.Status(), got.Body)
		}
		return got.JSON200.Data
	}
	ended := func(location string, accepted *client.EnvelopeJob) client.Job {
		t.Helper()
		if accepted.Data.Status != client.JobStatusPending || accepted.Data.Links == nil ||
			(*accepted.Data.Links)[0].Href != location {
			t.Errorf("accepted %+v, Location %s", accepted.Data, location)
		}
		s.ended(location)
		job, err := c.GetJobWithResponse(t.Context(), uuid.MustParse(strings.TrimPrefix(location, "/api/jobs/")), nil)
		must(t, err)
		if job.JSON200 == nil {
			t.Fatalf("%s %s", job.Status(), job.Body)
		}
		return job.JSON200.Data
	}
	use := client.ServiceRequestUse{UsedByLegalEntity: client.Reference{Identifier: client.Identifier{Value: s.clinic}}}

	if r := read(); r.Program == nil || r.UsedByLegalEntity != nil || r.CompletedWith != nil || r.Quantity != nil ||
		r.StatusReason != nil || r.Status != client.ServiceRequestStatusActive {
		t.Errorf("at first: %+v", r)
	}

	used, err := c.UseServiceRequestWithResponse(t.Context(), id, nil, use)
	must(t, err)
	if used.JSON202 == nil {
		t.Fatalf("%s %s", used.Status(), used.Body)
	}
	if job := ended(used.Headers202.Location, used.JSON202); job.Status != client.JobStatusProcessed ||
		job.StatusCode == nil || *job.StatusCode != 200 || job.Error != nil {
		t.Errorf("job of use: %+v", job)
	}
	held := read()
	if *held.ProgramProcessingStatus != client.ServiceRequestProgramProcessingStatusInQueue ||
		held.UsedByLegalEntity.Identifier.Value != s.clinic || len(held.UsedByLegalEntityHistory) != 1 {
		t.Errorf("used: %+v", held)
	}
	// What was read can be sent back as it is.
	use.UsedByLegalEntity = *held.UsedByLegalEntity
	refused, err := c.UseServiceRequestWithResponse(t.Context(), id, nil, use)
	must(t, err)
	if refused.JSON409 == nil || refused.JSON409.Error.Message != "Service request is already used" {
		t.Errorf("used again: %s %s", refused.Status(), refused.Body)
	}

	first, err := c.ReleaseServiceRequestWithResponse(t.Context(), id, nil, client.ServiceRequestRelease{})
	must(t, err)
	if first.JSON202 == nil {
		t.Fatalf("%s %s", first.Status(), first.Body)
	}
	if job := ended(first.Headers202.Location, first.JSON202); job.Status != client.JobStatusProcessed {
		t.Errorf("job of release: %+v", job)
	}
	free := read()
	if *free.ProgramProcessingStatus != client.ServiceRequestProgramProcessingStatusNew || free.UsedByLegalEntity != nil {
		t.Errorf("released: %+v", free)
	}
	var states []string
	for _, item := range free.ProgramProcessingStatusHistory {
		states = append(states, item.ProgramProcessingStatus)
	}
	if !slices.Equal(states, []string{"new", "in_queue", "new"}) {
		t.Errorf("history %v", states)
	}
}

// TestClientReadsFailedJob: what the job found is told as the request would have been.
func TestClientReadsFailedJob(t *testing.T) {
	t.Parallel()
	s := newService(t)
	c := s.client()
	_, id := s.serviceRequest("in_queue", held(s.clinic))
	accepted, err := c.ReleaseServiceRequestWithBodyWithResponse(t.Context(), id, nil, "application/json",
		strings.NewReader(""))
	must(t, err)
	if accepted.JSON202 == nil {
		t.Fatalf("%s %s", accepted.Status(), accepted.Body)
	}
	s.sql(`UPDATE medical_events.service_requests SET status = 'recalled'`)
	s.work().ended(accepted.Headers202.Location)
	job, err := c.GetJobWithResponse(t.Context(), uuid.MustParse(strings.TrimPrefix(accepted.Headers202.Location,
		"/api/jobs/")), nil)
	must(t, err)
	if job.JSON200 == nil || job.JSON200.Data.Status != client.JobStatusFailed || *job.JSON200.Data.StatusCode != 409 ||
		job.JSON200.Data.Error.Message != "Invalid service request status" {
		t.Errorf("%s %s", job.Status(), job.Body)
	}
	unknown, err := c.GetJobWithResponse(t.Context(), uuid.New(), nil)
	must(t, err)
	if unknown.JSON404 == nil || unknown.JSON404.Error.Type != client.FaultTypeNotFound {
		text, _ := json.Marshal(unknown.JSON404)
		t.Errorf("%s %s", unknown.Status(), text)
	}
}
