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

	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
)

// Job is the state of asynchronous work (contract, section 5).
type Job struct {
	Status     string      `json:"status" enum:"pending,processed,failed"`
	StatusCode int         `json:"status_code,omitempty" doc:"Of an ended job: 200, or the code that its refusal has over HTTP" example:"200"`
	ETA        time.Time   `json:"eta" doc:"Of a pending job the measured guess of its end; of an ended one its end"`
	Links      []Link      `json:"links,omitempty" doc:"Of a pending job: the job itself. Of a processed job: the changed resource"`
	Fault      *rest.Fault `json:"error,omitempty" doc:"Of a failed job: why"`
}

// Link points at another resource.
type Link struct {
	Entity string `json:"entity" enum:"job,service_request"`
	Href   string `json:"href" example:"/api/jobs/0b1f9ad0-8d43-4a63-9b5c-0a9b3c1f7d11"`
}

type getJobInput struct {
	ID rest.UUID `path:"id"`
}

type jobOutput struct {
	RetryAfter        string `header:"Retry-After" doc:"Of a pending job: seconds to wait before asking again"`
	PreferenceApplied string `header:"Preference-Applied" doc:"The wait that was heeded"`
	Body              rest.Envelope[Job]
}

// jobs are the operations on jobs.
type jobs struct{ *rest.Server }

func (j jobs) register() {
	rest.Register(j.Server, rest.Endpoint[getJobInput, jobOutput]{
		Operation: huma.Operation{
			OperationID: "getJob",
			Method:      http.MethodGet,
			Path:        "/api/jobs/{id}",
			Tags:        []string{"Jobs"},
			Summary:     "Read a job",
			Description: "The state of an action that was accepted: 200 whatever the state. Only the client that " +
				"made the job may know of it. An ended job can be read for 30 days after its end, unless the " +
				"operator has set another time, which is a day at least; then it is answered 404.",
		},
		Scope: "job:read",
		Waits: true,
		Examples: rest.Examples{
			Answer: exampleProcessedJob(),
			Refusals: map[int]string{
				http.StatusNotFound: "Job not found",
			},
		},
		Do: j.get,
	})
}

func (j jobs) get(ctx context.Context, caller db.Caller, in *getJobInput) (*jobOutput, error) {
	p := rest.PatienceOf(ctx)
	job, err := j.await(ctx, caller, in.ID.Value(), p)
	if errors.Is(err, db.ErrNotFound) {
		return nil, rest.NotFound(ctx, "Job not found")
	}
	if err != nil {
		return nil, err
	}
	return &jobOutput{
		RetryAfter:        retryAfter(job),
		PreferenceApplied: p.Applied(),
		Body:              rest.Object(ctx, http.StatusOK, jobAnswer(job)),
	}, nil
}

// await reads a job of the caller's, waiting for its end as long as the caller is patient.
func (j jobs) await(ctx context.Context, caller db.Caller, id uuid.UUID, p rest.Patience) (db.Job, error) {
	if p == 0 {
		return j.DB.Jobs.Get(ctx, caller.ClientID, id)
	}
	over, release := p.Over(ctx, j.Stopping)
	defer release()
	return j.DB.Jobs.Await(ctx, caller.ClientID, id, over)
}

func jobAnswer(j db.Job) Job {
	a := Job{Status: string(j.Status), ETA: j.ETA.UTC()}
	switch j.Status {
	case db.Pending:
		a.Links = []Link{{"job", jobHref(j)}}
	case db.Processed:
		a.StatusCode = http.StatusOK
		href := "/api/patients/" + j.PatientID.String() + "/service_requests/" + j.ServiceRequestID.String()
		a.Links = []Link{{"service_request", href}}
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

func examplePendingJob() Job {
	return jobAnswer(db.Job{ID: exampleJob, Status: db.Pending, ETA: exampleMoment})
}

func exampleProcessedJob() Job {
	return jobAnswer(db.Job{
		Status: db.Processed, ETA: exampleMoment, PatientID: examplePatient, ServiceRequestID: exampleRequest,
	})
}
