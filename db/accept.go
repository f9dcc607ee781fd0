package db

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db/pg"
	"github.com/reiestr/reiestr/db/sqlc"
)

// acceptance is an order on its way to being a pending job.
type acceptance struct {
	action Action
	wanted wanted
	digest [sha256.Size]byte
}

// accepting is a member of a batch of acceptances.
type accepting = pg.Member[acceptance, Job]

// Accept judges an order and, if no rule refuses it, makes a pending job of it, or answers the equal one that is pending already
// (contract 4.3). A rule that says no is a Refusal. When Accept returns a job, it is durable.
func (j *Jobs) Accept(ctx context.Context, o Order) (Job, error) {
	body, err := json.Marshal(o.Body)
	if err != nil {
		return Job{}, err
	}
	job, err := j.intake.Do(ctx, acceptance{
		action: o.Action,
		wanted: wanted{job: uuid.New(), serviceRequestID: o.ServiceRequestID, caller: o.Caller, body: body},
		digest: sha256.Sum256(fmt.Append(nil, o.Action, o.ServiceRequestID, o.Caller.ClientID, o.Caller.UserID, string(body))),
	})
	if err != nil {
		return Job{}, err
	}
	job.ETA = j.estimate(ctx, job.InsertedAt)
	return job, nil
}

// accept judges the orders of a batch and makes pending jobs of those that no rule refuses.
func (j *Jobs) accept(ctx context.Context, members []*accepting) error {
	byAction := map[Action][]*accepting{}
	for _, m := range members {
		byAction[m.Order.action] = append(byAction[m.Order.action], m)
	}
	allowed := map[uuid.UUID]allowance{}
	for action, asked := range byAction {
		verdicts, err := rulesOf[action].judge(ctx, j.db.read(), j.db.moment(), columnsOf(ordersOf(asked)))
		if err != nil {
			return fmt.Errorf("judge %s: %w", action, err)
		}
		for _, m := range asked {
			w := m.Order.wanted
			v := verdicts[w.job]
			if v.refusal != "" {
				m.Settle(Job{}, v.refusal)
				continue
			}
			allowed[w.job] = allowance{m, Job{
				ID: w.job, Action: action, ServiceRequestID: w.serviceRequestID, PatientID: v.patientID.UUID, Status: Pending,
			}}
		}
	}
	for len(allowed) > 0 {
		if err := j.enqueue(ctx, allowed); err != nil {
			return fmt.Errorf("enqueue: %w", err)
		}
	}
	return nil
}

// allowance is an order that no rule refuses, and the job that it is to become.
type allowance struct {
	*accepting
	job Job
}

// enqueue makes pending jobs, or finds the equal ones that are pending already, and takes the orders that are settled by that out of allowed.
// An order that is left has met an equal job that ended at this moment. A job that has been added is durable: its order is settled at once,
// whatever happens to the others.
func (j *Jobs) enqueue(ctx context.Context, allowed map[uuid.UUID]allowance) error {
	var p sqlc.EnqueueJobsParams
	for _, a := range allowed {
		w := a.Order.wanted
		p.Ids = append(p.Ids, w.job)
		p.Actions = append(p.Actions, string(a.Order.action))
		p.ServiceRequestIds = append(p.ServiceRequestIds, w.serviceRequestID)
		p.PatientIds = append(p.PatientIds, a.job.PatientID)
		p.ClientIds = append(p.ClientIds, w.caller.ClientID)
		p.UserIds = append(p.UserIds, w.caller.UserID)
		p.Bodies = append(p.Bodies, w.body)
		p.RequestDigests = append(p.RequestDigests, a.Order.digest[:])
		p.TraceContexts = append(p.TraceContexts, j.db.observer.Trace(a.Context()))
	}
	added, err := j.db.read().EnqueueJobs(ctx, p)
	if err != nil {
		return err
	}
	for _, r := range added {
		a := allowed[r.ID]
		a.job.InsertedAt = r.InsertedAt
		a.Settle(a.job, nil)
		delete(allowed, r.ID)
	}
	if len(added) > 0 {
		signal(j.added)
	}
	if len(allowed) == 0 {
		return nil
	}
	var equal sqlc.FindPendingJobsParams
	for _, a := range allowed {
		equal.Ids = append(equal.Ids, a.Order.wanted.job)
		equal.ServiceRequestIds = append(equal.ServiceRequestIds, a.Order.wanted.serviceRequestID)
		equal.RequestDigests = append(equal.RequestDigests, a.Order.digest[:])
	}
	found, err := j.db.read().FindPendingJobs(ctx, equal)
	for _, r := range found {
		a := allowed[r.AskedID]
		a.job.ID, a.job.InsertedAt = r.ID, r.InsertedAt
		a.Settle(a.job, nil)
		delete(allowed, r.AskedID)
	}
	return err
}

func ordersOf(asked []*accepting) []wanted {
	orders := make([]wanted, len(asked))
	for i, m := range asked {
		orders[i] = m.Order.wanted
	}
	return orders
}
