package db

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db/pg"
	"github.com/reiestr/reiestr/db/sqlc"
)

// mostPending is how many pending jobs a client may have on one service request. No more than one of them is likely to
// succeed, and each waits for all before it.
const mostPending = 20

// TooManyPending: the client already has the highest number of pending jobs on the service request.
type TooManyPending struct {
	Until time.Time // when one of them is expected to end
}

func (TooManyPending) Error() string {
	return "the client has too many pending jobs on the service request"
}

// intake accepts orders. Simultaneous orders share their statements and a commit.
type intake struct {
	db    *statements
	added chan struct{} // has one place: a signal that jobs have been added
	group *pg.Group[*Order, accepted]
}

// accepted is the job of an accepted order.
type accepted struct {
	id, patient          uuid.UUID
	insertedAt, beginsAt time.Time
}

// accepting is a member of a batch of orders.
type accepting = pg.Member[*Order, accepted]

// allowance is an order that no rule refuses, with its new job.
type allowance struct {
	*accepting
	job accepted
}

func newIntake(s *statements) *intake {
	i := &intake{db: s, added: make(chan struct{}, 1)}
	i.group = pg.NewGroup(s.pg, i.accept)
	return i
}

// accept judges the orders of a batch and adds a pending job for each order that no rule refuses. An order is settled
// as soon as its job has been added, because the job is durable then: a later error concerns only the other orders.
func (i *intake) accept(ctx context.Context, members []*accepting) error {
	allowed, err := i.judge(ctx, members)
	if err != nil {
		return err
	}
	for len(allowed) > 0 {
		if err := i.add(ctx, allowed); err != nil {
			return fmt.Errorf("enqueue: %w", err)
		}
		if err := i.find(ctx, allowed); err != nil {
			return fmt.Errorf("find equal jobs: %w", err)
		}
		// The orders that are left in allowed have met an equal job that ended between the two statements.
	}
	return nil
}

// judge runs the ladders. It settles the refused orders, and answers the other ones by job.
func (i *intake) judge(ctx context.Context, members []*accepting) (map[uuid.UUID]*allowance, error) {
	byAction := map[Action]*columns{}
	allowed := make(map[uuid.UUID]*allowance, len(members))
	for _, m := range members {
		c := byAction[m.Order.Action]
		if c == nil {
			c = &columns{}
			byAction[m.Order.Action] = c
		}
		c.add(m.Order)
		allowed[m.Order.job] = &allowance{accepting: m}
	}
	for action, c := range byAction {
		verdicts, err := rulesOf[action].judge(ctx, i.db.read(), i.db.moment(), *c)
		if err != nil {
			return nil, fmt.Errorf("judge %s: %w", action, err)
		}
		for _, job := range c.jobs {
			v, m := verdicts[job], allowed[job]
			m.job = accepted{id: job, patient: v.PatientID.UUID}
			if v.Refusal != "" {
				m.Settle(accepted{}, Refusal(v.Refusal))
				delete(allowed, job)
			}
		}
	}
	return allowed, nil
}

// add adds pending jobs. It settles each order whose job was added, and each order whose client has too many pending
// jobs. It removes the settled orders from allowed.
func (i *intake) add(ctx context.Context, allowed map[uuid.UUID]*allowance) error {
	type pair struct{ serviceRequest, client uuid.UUID }
	var c columns
	p := sqlc.EnqueueJobsParams{MostPending: mostPending}
	places, taken := map[[sha256.Size]byte]int32{}, map[pair]int32{}
	for _, m := range allowed {
		c.add(m.Order)
		digest, of := m.Order.digest(), pair{m.Order.ServiceRequestID, m.Order.Caller.ClientID}
		if places[digest] == 0 { // equal orders of the batch share one job
			taken[of]++
			places[digest] = taken[of]
		}
		p.Actions = append(p.Actions, string(m.Order.Action))
		p.PatientIds = append(p.PatientIds, m.job.patient)
		p.RequestDigests = append(p.RequestDigests, digest[:])
		p.Places = append(p.Places, places[digest])
		p.TraceContexts = append(p.TraceContexts, i.db.observer.Trace(m.Context()))
	}
	p.Ids, p.ServiceRequestIds, p.ClientIds, p.UserIds, p.Bodies = c.jobs, c.serviceRequests, c.clients, c.users, c.bodies
	rows, err := i.db.read().EnqueueJobs(ctx, p)
	if err != nil {
		return err
	}
	for _, r := range rows {
		m := allowed[r.ID]
		m.job.beginsAt = r.BeginsAt
		switch {
		case r.IsOver:
			m.Settle(accepted{}, TooManyPending{Until: r.BeginsAt})
		case r.InsertedAt != nil:
			m.job.insertedAt = *r.InsertedAt
			m.Settle(m.job, nil)
		default:
			continue
		}
		delete(allowed, r.ID)
	}
	signal(i.added)
	return nil
}

// find finds pending jobs that are equal to the orders of allowed. It settles the orders that have such a job, and
// removes them from allowed.
func (i *intake) find(ctx context.Context, allowed map[uuid.UUID]*allowance) error {
	if len(allowed) == 0 {
		return nil
	}
	var p sqlc.FindPendingJobsParams
	for _, m := range allowed {
		digest := m.Order.digest()
		p.Ids = append(p.Ids, m.Order.job)
		p.ServiceRequestIds = append(p.ServiceRequestIds, m.Order.ServiceRequestID)
		p.RequestDigests = append(p.RequestDigests, digest[:])
	}
	found, err := i.db.read().FindPendingJobs(ctx, p)
	for _, r := range found {
		m := allowed[r.AskedID]
		m.job.id, m.job.insertedAt = r.ID, r.InsertedAt
		m.Settle(m.job, nil)
		delete(allowed, r.AskedID)
	}
	return err
}
