package api

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

// Job is the state of asynchronous work (contract, section 5).
type Job struct {
	Status     string    `json:"status" enum:"pending,processed,failed"`
	StatusCode int       `json:"status_code,omitempty" doc:"Of an ended job: 200, or the code that its refusal has over HTTP" example:"200"`
	ETA        time.Time `json:"eta" doc:"Of a pending job the measured guess of its end; of an ended one its end"`
	Links      []Link    `json:"links,omitempty" doc:"Of a pending job the job itself; of a processed one what it changed"`
	Fault      *Fault    `json:"error,omitempty" doc:"Of a failed job: why"`
}

// Link points at another resource.
type Link struct {
	Entity string `json:"entity" enum:"job,service_request"`
	Href   string `json:"href" example:"/api/jobs/0b1f9ad0-8d43-4a63-9b5c-0a9b3c1f7d11"`
}

type getJobInput struct {
	ID UUID `path:"id"`
}

type jobOutput struct {
	RetryAfter        string `header:"Retry-After" doc:"Of a pending job: seconds to wait before asking again"`
	PreferenceApplied string `header:"Preference-Applied" doc:"The wait that was heeded"`
	Body              Envelope[Job]
}

func (*jobOutput) waits() {}

// acceptedOutput answers an action that has become a job: 202, or 200 if the caller has waited for its end.
type acceptedOutput struct {
	Status            int
	Location          string `header:"Location" doc:"Where the job can be read"`
	RetryAfter        string `header:"Retry-After" doc:"Of a pending job: seconds to wait before asking for it"`
	PreferenceApplied string `header:"Preference-Applied" doc:"The wait that was heeded"`
	Body              Envelope[Job]
}

func (*acceptedOutput) waits() {}

func (s *server) registerJobs() {
	register(s, endpoint[getJobInput, jobOutput]{
		Operation: huma.Operation{
			OperationID: "getJob",
			Method:      http.MethodGet,
			Path:        "/api/jobs/{id}",
			Tags:        []string{"Jobs"},
			Summary:     "Read a job",
			Description: "The state of an action that was accepted: 200 whatever the state. Only the client that made the job may know of it. " +
				"An ended job can be read for 30 days after its end, unless the operator has set another time, which is a day at least; then it is answered 404.",
			Errors: []int{http.StatusNotFound},
		},
		scope:         "job:read",
		answerExample: exampleProcessedJob(),
		do:            s.getJob,
	})
}

func (s *server) getJob(ctx context.Context, caller db.Caller, in *getJobInput) (*jobOutput, error) {
	p := patienceOf(ctx)
	job, err := s.job(ctx, caller, in.ID.value(), p)
	if errors.Is(err, db.ErrNotFound) {
		return nil, notFound(ctx, "Job not found")
	}
	if err != nil {
		return nil, err
	}
	return &jobOutput{
		RetryAfter:        retryAfter(job),
		PreferenceApplied: p.applied(),
		Body:              Envelope[Job]{metaOf(ctx, http.StatusOK), jobAnswer(job)},
	}, nil
}

// job reads a job of the caller's, waiting for its end as long as the caller is patient.
func (s *server) job(ctx context.Context, caller db.Caller, id uuid.UUID, p patience) (db.Job, error) {
	if p == 0 {
		return s.DB.Jobs.Get(ctx, caller.ClientID, id)
	}
	over, release := s.enough(ctx, p)
	defer release()
	return s.DB.Jobs.Await(ctx, caller.ClientID, id, over)
}

// accept takes an action and answers the job that it has become: as soon as it has ended, if the caller waits for that long.
func (s *server) accept(ctx context.Context, o db.Order) (*acceptedOutput, error) {
	job, err := s.DB.Jobs.Accept(ctx, o)
	if err != nil {
		return nil, err
	}
	requestOf(ctx).note.Job = job.ID
	p := patienceOf(ctx)
	if p > 0 {
		awaited, err := s.job(ctx, o.Caller, job.ID, p)
		if err == nil {
			job = awaited
		} else {
			// It has been accepted all the same, which is what the caller must know.
			s.Log.WarnContext(ctx, "the end of a job could not be awaited", "request_id", requestOf(ctx).id, "error", err)
		}
	}
	code := http.StatusAccepted
	if job.Status != db.Pending {
		code = http.StatusOK
	}
	return &acceptedOutput{
		Status:            code,
		Location:          jobHref(job),
		RetryAfter:        retryAfter(job),
		PreferenceApplied: p.applied(),
		Body:              Envelope[Job]{metaOf(ctx, code), jobAnswer(job)},
	}, nil
}

func jobAnswer(j db.Job) Job {
	a := Job{Status: string(j.Status), ETA: j.ETA.UTC()}
	switch j.Status {
	case db.Pending:
		a.Links = []Link{{"job", jobHref(j)}}
	case db.Processed:
		a.StatusCode = http.StatusOK
		a.Links = []Link{{"service_request", "/api/patients/" + j.PatientID.String() + "/service_requests/" + j.ServiceRequestID.String()}}
	case db.Failed:
		code, fault := refusalFault(j.Refusal, j.AllowedCodes)
		a.StatusCode, a.Fault = code, &fault
	}
	return a
}

func jobHref(j db.Job) string { return "/api/jobs/" + j.ID.String() }

// retryAfter is whole seconds until the estimated end of a pending job, at least one; empty for an ended one.
func retryAfter(j db.Job) string {
	if j.Status != db.Pending {
		return ""
	}
	return strconv.Itoa(max(1, int(math.Ceil(time.Until(j.ETA).Seconds()))))
}
