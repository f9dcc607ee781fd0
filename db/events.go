package db

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/db/pg"
	"github.com/reiestr/reiestr/db/sqlc"
)

// publishedAtOnce is how many events one transaction publishes.
const publishedAtOnce = 1000

// Beginning is the position in front of the oldest event of a feed that is kept.
const Beginning int64 = -1

var (
	// ErrEventsRemoved: the reader has missed events, as some behind its position have been removed (see Events.Prune).
	ErrEventsRemoved = errors.New("events behind this position have been removed")
	// ErrUnknownPosition: the feed has no such place. The position comes from a state of the database that was lost when
	// an earlier one was restored, or from the feed of another legal entity.
	ErrUnknownPosition = errors.New("this position is not in the feed")
)

// Event tells of a change (contract, section 6).
type Event struct {
	ID         uuid.UUID
	Type       string
	EntityType string
	EntityID   uuid.UUID
	Properties json.RawMessage // old and new value by element name
	ChangedBy  uuid.UUID
	Time       time.Time
}

// Events are what legal entities are told of.
type Events struct {
	db          *statements
	news        *news
	publication *pg.Group[struct{}, struct{}]
}

func newEvents(s *statements, n *news) *Events {
	e := &Events{db: s, news: n}
	e.publication = pg.NewAbandonableGroup(s.pg, e.publishFor)
	return e
}

// After lists the events of a legal entity behind a position of its feed, oldest first, at most limit, and the position
// of the last one, from which to go on. Events that were committed before the call are among them. Errors:
// ErrEventsRemoved, ErrUnknownPosition.
//
// A restored database cannot know that it was restored. But positions follow the clock, and are given out once only,
// also across a restore (migration 16). So a reader's position is the horizon, or a place that its feed has, or it is
// of a state of the database that is lost.
func (e *Events) After(
	ctx context.Context, clientID uuid.UUID, position int64, limit int,
) (found []Event, last int64, err error) {
	if err := e.Publish(ctx); err != nil {
		return nil, position, err
	}
	rows, err := e.db.read().ListEvents(ctx, sqlc.ListEventsParams{
		LegalEntityID: clientID, FromPosition: position, PageSize: int32(limit) + 1, // the position's own place comes first
	})
	if err != nil {
		return nil, position, err
	}
	var horizon int64
	if len(rows) > 0 {
		horizon = rows[0].Horizon
	} else if horizon, err = e.db.read().GetEventHorizon(ctx, clientID); err != nil {
		return nil, position, err
	}
	switch {
	case position < 0:
		position = horizon
	case position < horizon:
		return nil, position, ErrEventsRemoved
	case len(rows) > 0 && rows[0].Position == position:
		rows = rows[1:]
	case position > horizon:
		return nil, position, ErrUnknownPosition
	}
	rows = rows[:min(len(rows), limit)]
	for _, r := range rows {
		found = append(found, Event{
			ID: r.ID, Type: r.EventType, EntityType: r.EntityType, EntityID: r.EntityID,
			Properties: r.Properties, ChangedBy: r.ChangedBy, Time: r.EventTime,
		})
		position = r.Position
	}
	return found, position, nil
}

// EventFilter selects events. A filter that is nil selects all.
type EventFilter struct {
	Date, DateTo  *time.Time // both moments are in the window; nil: from three hours ago; without an end
	EventType     *string
	EntityType    *string
	AttributeName *string // the event tells of a change of this property
	NewValue      *string // of the property; needs its name
}

// ByTime lists the events of a legal entity in a window of time, oldest first. Events that were committed before the
// call are among them.
func (e *Events) ByTime(ctx context.Context, clientID uuid.UUID, f EventFilter, p Page) (List[Event], error) {
	if err := e.Publish(ctx); err != nil {
		return List[Event]{}, err
	}
	return listOf(p,
		func(size, offset int64) ([]sqlc.ListEventsByTimeRow, error) {
			return e.db.read().ListEventsByTime(ctx, sqlc.ListEventsByTimeParams{
				LegalEntityID: clientID, Date: f.Date, DateTo: f.DateTo, AsOf: e.db.moment(),
				EventType: f.EventType, EntityType: f.EntityType, AttributeName: f.AttributeName, NewValue: f.NewValue,
				PageSize: size, PageOffset: offset,
			})
		},
		func(r sqlc.ListEventsByTimeRow) int64 { return r.TotalEntries },
		func(r sqlc.ListEventsByTimeRow) (Event, error) {
			return Event{
				ID: r.ID, Type: r.EventType, EntityType: r.EntityType, EntityID: r.EntityID,
				Properties: r.Properties, ChangedBy: r.ChangedBy, Time: r.EventTime,
			}, nil
		},
	)
}

// Get reads an event that concerns a legal entity. ErrNotFound: there is none, or it concerns others, or it has been
// removed after its retention.
func (e *Events) Get(ctx context.Context, clientID, id uuid.UUID) (Event, error) {
	r, err := e.db.read().GetEvent(ctx, sqlc.GetEventParams{ID: id, LegalEntityID: clientID})
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	return Event{
		ID: r.ID, Type: r.EventType, EntityType: r.EntityType, EntityID: r.EntityID,
		Properties: r.Properties, ChangedBy: r.ChangedBy, Time: r.EventTime,
	}, err
}

// Await is After that waits for an event, until there is one or enough is closed; then it takes a last look.
func (e *Events) Await(
	ctx context.Context, clientID uuid.UUID, position int64, limit int, enough <-chan struct{},
) (found []Event, last int64, err error) {
	w := e.news.subscribe(clientID, position)
	defer w.done()
	for {
		found, last, err = e.After(ctx, clientID, position, limit)
		if err != nil || len(found) > 0 {
			return found, last, err
		}
		select {
		case <-ctx.Done():
			return nil, position, ctx.Err()
		case <-enough:
			return e.After(ctx, clientID, position, limit)
		case <-w.woken:
		}
	}
}

// Publish gives all events that were committed before the call, and have none yet, their places in the feeds, and wakes
// their subscribers. Simultaneous calls share one publication: a process waits for the publisher of another on one
// connection.
func (e *Events) Publish(ctx context.Context) error {
	_, err := e.publication.Do(ctx, struct{}{})
	return err
}

// publishFor publishes once for all callers of a batch.
func (e *Events) publishFor(ctx context.Context, callers []*pg.Member[struct{}, struct{}]) error {
	err := e.publish(ctx)
	for _, m := range callers {
		m.Settle(struct{}{}, err)
	}
	return nil
}

func (e *Events) publish(ctx context.Context) error {
	for {
		if some, err := e.db.read().HasUnpublishedEvents(ctx); err != nil || !some {
			return err
		}
		var published sqlc.PublishEventsRow
		err := e.db.transact(ctx, "publish events", func(t *transaction) (err error) {
			if err := t.soon().LockPublication(ctx); err != nil {
				return err
			}
			published, err = t.last().PublishEvents(ctx, publishedAtOnce)
			return err
		})
		if err != nil {
			return err
		}
		e.news.tell(published.LegalEntityIds)
		if published.Events < publishedAtOnce {
			return nil
		}
	}
}

// Prune removes the events that are older than the retention, if every feed has them or they belong into no feed. It
// tells how many.
func (e *Events) Prune(ctx context.Context, retention time.Duration) (pruned int64, err error) {
	batch := sqlc.PruneEventsParams{RetentionSeconds: retention.Seconds(), BatchSize: prunedAtOnce}
	for {
		var row sqlc.PruneEventsRow
		err := e.db.transact(ctx, "prune events", func(t *transaction) (err error) {
			row, err = t.last().PruneEvents(ctx, batch)
			return err
		})
		if err != nil || row.Pruned == 0 {
			return pruned, err
		}
		e.db.observer.Pruned("events", row.Pruned)
		pruned += row.Pruned
		batch.After = row.Last
	}
}
