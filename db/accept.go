package db

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db/sqlc"
)

// acceptance is an order on its way to being a pending job.
type acceptance struct {
	action Action
	wanted wanted
	digest [sha256.Size]byte
}

// accepting is somebody whose order is being accepted.
type accepting = member[acceptance, Job]

// Accept judges an order and, if no rule refuses it, makes a pending job of it, or answers the equal one that is pending already
// (contract 4.3). A rule that says no is a Refusal. When Accept returns a job, it is durable.
func (j *Jobs) Accept(ctx context.Context, o Order) (Job, error) {
	body, err := json.Marshal(o.Body)
	if err != nil {
		return Job{}, err
	}
	job, err := j.intake.do(ctx, acceptance{
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

// acceptOne accepts an order by itself.
func (j *Jobs) acceptOne(ctx context.Context, o acceptance) (Job, error) {
	m := &accepting{ctx: ctx, order: o}
	if err := j.accept(ctx, []*accepting{m}); err != nil {
		return Job{}, err
	}
	return m.result, m.err
}

// accept judges the orders of a group and makes pending jobs of those that no rule refuses. The statements take arrays anyway, for the
// workers, and a group has one commit.
func (j *Jobs) accept(ctx context.Context, group []*accepting) error {
	byAction := map[Action][]*accepting{}
	for _, m := range group {
		byAction[m.order.action] = append(byAction[m.order.action], m)
	}
	allowed := map[uuid.UUID]*accepting{}
	for action, asked := range byAction {
		verdicts, err := rulesOf[action].judge(ctx, j.db.read(), j.db.moment(), columnsOf(ordersOf(asked)))
		if err != nil {
			return fmt.Errorf("judge %s: %w", action, err)
		}
		for _, m := range asked {
			w := m.order.wanted
			v := verdicts[w.job]
			if v.refusal != "" {
				m.err = v.refusal
				continue
			}
			m.result = Job{ID: w.job, Action: action, ServiceRequestID: w.serviceRequestID, PatientID: v.patientID.UUID, Status: Pending}
			allowed[w.job] = m
		}
	}
	for len(allowed) > 0 {
		if err := j.enqueue(ctx, allowed); err != nil {
			return fmt.Errorf("enqueue: %w", err)
		}
	}
	signal(j.added)
	return nil
}

// enqueue makes pending jobs, or finds those that are pending already, and takes what is settled out of allowed. What is left has met an
// equal job that ended at this moment.
func (j *Jobs) enqueue(ctx context.Context, allowed map[uuid.UUID]*accepting) error {
	var p sqlc.EnqueueJobsParams
	for _, m := range allowed {
		w := m.order.wanted
		p.Ids = append(p.Ids, w.job)
		p.Actions = append(p.Actions, string(m.order.action))
		p.ServiceRequestIds = append(p.ServiceRequestIds, w.serviceRequestID)
		p.PatientIds = append(p.PatientIds, m.result.PatientID)
		p.ClientIds = append(p.ClientIds, w.caller.ClientID)
		p.UserIds = append(p.UserIds, w.caller.UserID)
		p.Bodies = append(p.Bodies, w.body)
		p.RequestDigests = append(p.RequestDigests, m.order.digest[:])
		p.TraceContexts = append(p.TraceContexts, j.db.observer.Trace(m.ctx))
	}
	added, err := j.db.read().EnqueueJobs(ctx, p)
	if err != nil {
		return err
	}
	for _, r := range added {
		allowed[r.ID].result.InsertedAt = r.InsertedAt
		delete(allowed, r.ID)
	}
	if len(allowed) == 0 {
		return nil
	}
	var equal sqlc.FindPendingJobsParams
	for _, m := range allowed {
		equal.Ids = append(equal.Ids, m.order.wanted.job)
		equal.ServiceRequestIds = append(equal.ServiceRequestIds, m.order.wanted.serviceRequestID)
		equal.RequestDigests = append(equal.RequestDigests, m.order.digest[:])
	}
	found, err := j.db.read().FindPendingJobs(ctx, equal)
	for _, r := range found {
		m := allowed[r.AskedID]
		m.result.ID, m.result.InsertedAt = r.ID, r.InsertedAt
		delete(allowed, r.AskedID)
	}
	return err
}

func ordersOf(asked []*accepting) []wanted {
	orders := make([]wanted, len(asked))
	for i, m := range asked {
		orders[i] = m.order.wanted
	}
	return orders
}
