package db

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db/sqlc"
)

// Action is an operation on a service request.
type Action string

const (
	Use      Action = "use"
	Release  Action = "release"
	Process  Action = "process"
	Complete Action = "complete"
)

// Order is the request of a caller to carry out an action on a service request.
type Order struct {
	Action           Action
	ServiceRequestID uuid.UUID
	Caller           Caller
	// Body is UseBody, ReleaseBody, ProcessBody or CompleteBody. It holds only those elements of the request that the
	// rules and the effect of the action read: orders with equal bodies are equal.
	Body any

	job  uuid.UUID // the job that carries the order out
	body []byte    // Body as the stored JSON
}

// UseBody is the Body of an order with the action Use.
type UseBody struct {
	UsedByLegalEntity uuid.UUID  `json:"used_by_legal_entity"`
	UsedByEmployee    *uuid.UUID `json:"used_by_employee,omitempty"`
	UsedByDivision    *uuid.UUID `json:"used_by_division,omitempty"`
}

// ReleaseBody is the Body of an order with the action Release. It has no elements.
type ReleaseBody struct{}

// ProcessBody is the Body of an order with the action Process. It has no elements.
type ProcessBody struct{}

// CompleteBody is the Body of an order with the action Complete.
type CompleteBody struct {
	CompletedWith  *CompletedWith `json:"completed_with,omitempty"`
	ProgramService *uuid.UUID     `json:"program_service,omitempty"`
	StatusReason   any            `json:"status_reason,omitempty"` // marshals to a CodeableConcept; nil: none
}

// CompletedWith refers to the record with which a service request was completed: an encounter, a diagnostic report or a
// procedure.
type CompletedWith struct {
	Type string    `json:"type"`
	ID   uuid.UUID `json:"id"`
}

// prepare sets the id of the job and the JSON of the body.
func (o *Order) prepare() (err error) {
	o.job = uuid.New()
	o.body, err = json.Marshal(o.Body)
	return err
}

// digest is the same for equal orders, and differs for all others.
func (o *Order) digest() [sha256.Size]byte {
	return sha256.Sum256(fmt.Append(nil, o.Action, o.ServiceRequestID, o.Caller.ClientID, o.Caller.UserID, string(o.body)))
}

// rules are the queries of one action. They take any number of orders.
type rules struct {
	// judge runs the ladder: once at the request, and again in the job. asOf is the moment of the decision; nil: now.
	judge func(ctx context.Context, q *sqlc.Queries, asOf *time.Time, c columns) (map[uuid.UUID]verdict, error)
	// apply carries out the orders that the ladder allows, and answers their number.
	apply func(ctx context.Context, q *sqlc.Queries, c columns) (int64, error)
}

// rulesOf is the table of the actions.
var rulesOf = map[Action]rules{
	Use: {
		judge: func(ctx context.Context, q *sqlc.Queries, asOf *time.Time, c columns) (map[uuid.UUID]verdict, error) {
			return verdicts(q.JudgeUse(ctx, sqlc.JudgeUseParams{
				Ids: c.jobs, ServiceRequestIds: c.serviceRequests, ClientIds: c.clients, Bodies: c.bodies, AsOf: asOf,
			}))
		},
		apply: func(ctx context.Context, q *sqlc.Queries, c columns) (int64, error) {
			return q.UseServiceRequests(ctx, sqlc.UseServiceRequestsParams{
				ServiceRequestIds: c.serviceRequests, UserIds: c.users, Bodies: c.bodies,
			})
		},
	},
	Release: {
		judge: func(ctx context.Context, q *sqlc.Queries, _ *time.Time, c columns) (map[uuid.UUID]verdict, error) {
			return verdicts(q.JudgeRelease(ctx, sqlc.JudgeReleaseParams{
				Ids: c.jobs, ServiceRequestIds: c.serviceRequests, ClientIds: c.clients,
			}))
		},
		apply: func(ctx context.Context, q *sqlc.Queries, c columns) (int64, error) {
			return q.ReleaseServiceRequests(ctx, sqlc.ReleaseServiceRequestsParams{
				ServiceRequestIds: c.serviceRequests, UserIds: c.users,
			})
		},
	},
	Process: {
		judge: func(ctx context.Context, q *sqlc.Queries, _ *time.Time, c columns) (map[uuid.UUID]verdict, error) {
			return verdicts(q.JudgeProcess(ctx, sqlc.JudgeProcessParams{
				Ids: c.jobs, ServiceRequestIds: c.serviceRequests, ClientIds: c.clients,
			}))
		},
		apply: func(ctx context.Context, q *sqlc.Queries, c columns) (int64, error) {
			return q.ProcessServiceRequests(ctx, sqlc.ProcessServiceRequestsParams{
				ServiceRequestIds: c.serviceRequests, ClientIds: c.clients, UserIds: c.users,
			})
		},
	},
	Complete: {
		judge: func(ctx context.Context, q *sqlc.Queries, _ *time.Time, c columns) (map[uuid.UUID]verdict, error) {
			return verdicts(q.JudgeComplete(ctx, sqlc.JudgeCompleteParams{
				Ids: c.jobs, ServiceRequestIds: c.serviceRequests, ClientIds: c.clients, Bodies: c.bodies,
			}))
		},
		apply: func(ctx context.Context, q *sqlc.Queries, c columns) (int64, error) {
			return q.CompleteServiceRequests(ctx, sqlc.CompleteServiceRequestsParams{
				ServiceRequestIds: c.serviceRequests, ClientIds: c.clients, UserIds: c.users, Bodies: c.bodies,
			})
		},
	},
}

// knownActions are the actions that this program can carry out. A newer release on the same database may have more.
var knownActions = func() (names []string) {
	for a := range rulesOf {
		names = append(names, string(a))
	}
	slices.Sort(names)
	return names
}()

// verdict is the decision of a ladder about the order of one job.
type verdict struct {
	ID        uuid.UUID // of the job
	PatientID uuid.NullUUID
	Refusal   string // "": none
}

// verdicts converts the rows of any ladder to verdicts, by job.
func verdicts[R interface {
	~struct {
		ID        uuid.UUID
		PatientID uuid.NullUUID
		Refusal   string
	}
}](rows []R, err error) (map[uuid.UUID]verdict, error) {
	m := make(map[uuid.UUID]verdict, len(rows))
	for _, r := range rows {
		v := verdict(r)
		m[v.ID] = v
	}
	return m, err
}

// columns are the arrays by which the statements take orders.
type columns struct {
	jobs, serviceRequests, clients, users []uuid.UUID
	bodies                                [][]byte
}

func (c *columns) add(o *Order) {
	c.jobs = append(c.jobs, o.job)
	c.serviceRequests = append(c.serviceRequests, o.ServiceRequestID)
	c.clients = append(c.clients, o.Caller.ClientID)
	c.users = append(c.users, o.Caller.UserID)
	c.bodies = append(c.bodies, o.body)
}

// carryOut judges orders of one action under the locks of their service requests, and applies those that no rule
// refuses. It answers the refusals by job.
func carryOut(
	ctx context.Context, q *sqlc.Queries, asOf *time.Time, a Action, orders []*Order,
) (map[uuid.UUID]Refusal, error) {
	var all, allowed columns
	for _, o := range orders {
		all.add(o)
	}
	judged, err := rulesOf[a].judge(ctx, q, asOf, all)
	if err != nil {
		return nil, err
	}
	refusals := make(map[uuid.UUID]Refusal, len(orders))
	for _, o := range orders {
		refusal := Refusal(judged[o.job].Refusal)
		refusals[o.job] = refusal
		if refusal == "" {
			allowed.add(o)
		}
	}
	if len(allowed.jobs) == 0 {
		return refusals, nil
	}
	rows, err := rulesOf[a].apply(ctx, q, allowed)
	if err == nil && rows != int64(len(allowed.jobs)) {
		err = fmt.Errorf("%d orders allowed, %d carried out: %w", len(allowed.jobs), rows, errNotAsDecided)
	}
	return refusals, err
}
