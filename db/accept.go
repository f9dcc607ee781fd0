package db

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db/sqlc"
)

const (
	// mostTogether bounds the statements of a group, and how long its first waits for its last.
	mostTogether = 200
	// togetherTimeout bounds the work for a group, whatever the patience of those in it.
	togetherTimeout = 20 * time.Second
)

// acceptance is an order on its way to being a pending job.
type acceptance struct {
	ctx    context.Context // of who asks: whether they still wait, and their trace
	action Action
	wanted wanted
	digest [sha256.Size]byte

	done chan struct{} // closed when the next three are settled
	job  Job
	err  error
	redo bool // the group has failed: nothing is decided
}

// intake groups simultaneous acceptances. One group is written at a time; what comes in meanwhile is the next one. So nobody waits for
// company, and the more come the less each costs: the statements take arrays anyway, and a group has one commit.
type intake struct {
	mu      sync.Mutex
	waiting []*acceptance
	writing bool
}

// Accept judges an order and, if no rule refuses it, makes a pending job of it, or answers the equal one that is pending already
// (contract 4.3). A rule that says no is a Refusal. When Accept returns a job, it is durable.
func (j *Jobs) Accept(ctx context.Context, o Order) (Job, error) {
	body, err := json.Marshal(o.Body)
	if err != nil {
		return Job{}, err
	}
	a := &acceptance{
		ctx: ctx, action: o.Action, done: make(chan struct{}),
		wanted: wanted{job: uuid.New(), serviceRequestID: o.ServiceRequestID, caller: o.Caller, body: body},
		digest: sha256.Sum256(fmt.Append(nil, o.Action, o.ServiceRequestID, o.Caller.ClientID, o.Caller.UserID, string(body))),
	}
	j.join(a)
	select {
	case <-a.done:
	case <-ctx.Done():
		if j.leave(a) {
			return Job{}, ctx.Err()
		}
		<-a.done // it is being written: what becomes of it is worth knowing
	}
	if a.redo {
		// One of the group has made it fail; the others are not to suffer for it.
		a.err = nil
		if err := j.accept(ctx, []*acceptance{a}); err != nil { // else it has settled err itself
			a.err = err
		}
	}
	if a.err != nil {
		return Job{}, a.err
	}
	a.job.ETA = j.estimate(ctx, a.job.InsertedAt)
	return a.job, nil
}

// join adds to the next group, and sees to it that somebody writes groups.
func (j *Jobs) join(a *acceptance) {
	j.intake.mu.Lock()
	defer j.intake.mu.Unlock()
	j.intake.waiting = append(j.intake.waiting, a)
	if !j.intake.writing {
		j.intake.writing = true
		go j.writeGroups()
	}
}

// leave takes somebody who is tired of waiting out of the next group; false: the group is being written.
func (j *Jobs) leave(a *acceptance) bool {
	j.intake.mu.Lock()
	defer j.intake.mu.Unlock()
	i := slices.Index(j.intake.waiting, a)
	if i < 0 {
		return false
	}
	j.intake.waiting = slices.Delete(j.intake.waiting, i, i+1)
	return true
}

// next takes the next group; nil: nobody waits, and the one who asks is to stop writing.
func (j *Jobs) next() []*acceptance {
	j.intake.mu.Lock()
	defer j.intake.mu.Unlock()
	n := min(len(j.intake.waiting), mostTogether)
	group := slices.Clone(j.intake.waiting[:n])
	j.intake.waiting = slices.Delete(j.intake.waiting, 0, n)
	j.intake.writing = n > 0
	return group
}

func (j *Jobs) writeGroups() {
	for group := j.next(); len(group) > 0; group = j.next() {
		// Its statements are told to the trace of the first, and not cut short when one of them goes.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(group[0].ctx), togetherTimeout)
		err := j.accept(ctx, group)
		cancel()
		for _, a := range group {
			if err != nil {
				a.err, a.redo = err, len(group) > 1
			}
			close(a.done)
		}
	}
}

// accept judges the acceptances of a group and makes pending jobs of those that no rule refuses. It settles job and err of each, or fails
// for all.
func (j *Jobs) accept(ctx context.Context, group []*acceptance) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("accept: panic: %v", p)
		}
	}()
	byAction := map[Action][]*acceptance{}
	for _, a := range group {
		byAction[a.action] = append(byAction[a.action], a)
	}
	allowed := map[uuid.UUID]*acceptance{}
	for action, asked := range byAction {
		verdicts, err := rulesOf[action].judge(ctx, j.db.read(), j.db.moment(), columnsOf(ordersOf(asked)))
		if err != nil {
			return fmt.Errorf("judge %s: %w", action, err)
		}
		for _, a := range asked {
			v, w := verdicts[a.wanted.job], a.wanted
			if v.refusal != "" {
				a.err = v.refusal
				continue
			}
			a.job = Job{ID: w.job, Action: action, ServiceRequestID: w.serviceRequestID, PatientID: v.patientID.UUID, Status: Pending}
			allowed[w.job] = a
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
func (j *Jobs) enqueue(ctx context.Context, allowed map[uuid.UUID]*acceptance) error {
	var p sqlc.EnqueueJobsParams
	for _, a := range allowed {
		p.Ids = append(p.Ids, a.job.ID)
		p.Actions = append(p.Actions, string(a.action))
		p.ServiceRequestIds = append(p.ServiceRequestIds, a.wanted.serviceRequestID)
		p.PatientIds = append(p.PatientIds, a.job.PatientID)
		p.ClientIds = append(p.ClientIds, a.wanted.caller.ClientID)
		p.UserIds = append(p.UserIds, a.wanted.caller.UserID)
		p.Bodies = append(p.Bodies, a.wanted.body)
		p.RequestDigests = append(p.RequestDigests, a.digest[:])
		p.TraceContexts = append(p.TraceContexts, j.db.observer.Trace(a.ctx))
	}
	added, err := j.db.read().EnqueueJobs(ctx, p)
	if err != nil {
		return err
	}
	for _, r := range added {
		allowed[r.ID].job.InsertedAt = r.InsertedAt
		delete(allowed, r.ID)
	}
	if len(allowed) == 0 {
		return nil
	}
	var equal sqlc.FindPendingJobsParams
	for _, a := range allowed {
		equal.Ids = append(equal.Ids, a.job.ID)
		equal.ServiceRequestIds = append(equal.ServiceRequestIds, a.wanted.serviceRequestID)
		equal.RequestDigests = append(equal.RequestDigests, a.digest[:])
	}
	found, err := j.db.read().FindPendingJobs(ctx, equal)
	for _, r := range found {
		a := allowed[r.AskedID]
		a.job.ID, a.job.InsertedAt = r.ID, r.InsertedAt
		delete(allowed, r.AskedID)
	}
	return err
}

func ordersOf(asked []*acceptance) []wanted {
	orders := make([]wanted, len(asked))
	for i, a := range asked {
		orders[i] = a.wanted
	}
	return orders
}
