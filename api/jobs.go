package api

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/reiestr/reiestr/db"
)

// Job is the state of asynchronous work (contract, section 5).
type Job struct {
	Status     string    `json:"status" enum:"pending,processed,failed"`
	StatusCode int       `json:"status_code,omitempty" doc:"Of an ended job: 200, or the code that its refusal has over HTTP" example:"200"`
	ETA        time.Time `json:"eta" doc:"Of a pending job the measured guess of its end; of an ended one its end"`
	Links      []Link    `json:"links,omitempty" nullable:"false" doc:"Of a pending job the job itself; of a processed one what it changed"`
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
	RetryAfter string `header:"Retry-After" doc:"Of a pending job: seconds to wait before asking again"`
	Body       Envelope[Job]
}

// acceptedOutput answers an action that has become a job.
type acceptedOutput struct {
	Location   string `header:"Location" doc:"Where the job can be read"`
	RetryAfter string `header:"Retry-After" doc:"Seconds to wait before asking for the job"`
	Body       Envelope[Job]
}

func (s *server) registerJobs() {
	register(s, endpoint[getJobInput, jobOutput]{
		Operation: huma.Operation{
			OperationID: "getJob",
			Method:      http.MethodGet,
			Path:        "/api/jobs/{id}",
			Tags:        []string{"Jobs"},
			Summary:     "Read a job",
			Description: "The state of an action that was accepted: 200 whatever the state. Only the client that made the job may know of it.",
			Errors:      []int{http.StatusNotFound},
		},
		scope:         "job:read",
		answerExample: exampleProcessedJob(),
		do:            s.getJob,
	})
}

func (s *server) getJob(ctx context.Context, caller db.Caller, in *getJobInput) (*jobOutput, error) {
	job, err := s.DB.Jobs.Get(ctx, caller.ClientID, in.ID.value())
	if errors.Is(err, db.ErrNotFound) {
		return nil, notFound(ctx, "Job not found")
	}
	if err != nil {
		return nil, err
	}
	return &jobOutput{
		RetryAfter: retryAfter(job),
		Body:       Envelope[Job]{metaOf(ctx, http.StatusOK), jobAnswer(job)},
	}, nil
}

// accepted answers an action with the job that it has become.
func accepted(ctx context.Context, job db.Job) *acceptedOutput {
	requestOf(ctx).note.Job = job.ID
	return &acceptedOutput{
		Location:   jobHref(job),
		RetryAfter: retryAfter(job),
		Body:       Envelope[Job]{metaOf(ctx, http.StatusAccepted), jobAnswer(job)},
	}
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
		code, fault := refusalFault(j.Refusal)
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
