package db

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db/pg"
	"github.com/reiestr/reiestr/db/sqlc"
)

const (
	// newsChannel is the channel of notifications between processes. They carry ids of ended jobs, and of legal entities
	// that have new events.
	newsChannel = "reiestr_news"
	// idsPerNotification keeps a notification below PostgreSQL's limit of 8000 bytes.
	idsPerNotification = 200
	// publishEvery is the time between two publications of a process that writes events all the time, because a
	// publication costs a commit. Readers of a feed publish first, so only waiting subscribers lose this time.
	publishEvery = 50 * time.Millisecond
	// lookEvery is the time between two queries for all subscribers of this process while it cannot hear notifications.
	lookEvery = time.Second
)

// news wakes subscribers: requests that wait for the end of a job or for events of a legal entity. News of this process
// wake them at once. News of other processes arrive as notifications. One connection outside of the pool listens for
// all subscribers; it is opened for the first subscriber.
type news struct {
	db     *statements
	hears  atomic.Bool   // the connection listens
	untold chan struct{} // has one place: a signal that there are news for the other processes

	mu      sync.Mutex
	waiting map[uuid.UUID]map[*subscriber]struct{}
	telling map[uuid.UUID]struct{} // news for the other processes
	ended   context.Context        // ends when the DB is closed
	end     context.CancelFunc
	running sync.WaitGroup
	started bool
}

func newNews(s *statements) *news {
	n := &news{
		db: s, untold: make(chan struct{}, 1),
		waiting: map[uuid.UUID]map[*subscriber]struct{}{}, telling: map[uuid.UUID]struct{}{},
	}
	n.ended, n.end = context.WithCancel(context.Background())
	return n
}

// subscriber waits for news of one id. It may be woken without news, so it reads the job or the feed each time.
type subscriber struct {
	news     *news
	id       uuid.UUID
	position int64 // in the feed of a legal entity: only events behind it are news
	woken    chan struct{}
}

// subscribe adds a subscriber. The subscriber reads its job or feed afterwards, so that it misses nothing in between.
func (n *news) subscribe(id uuid.UUID, position int64) *subscriber {
	w := &subscriber{n, id, position, make(chan struct{}, 1)}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiting[id] == nil {
		n.waiting[id] = map[*subscriber]struct{}{}
	}
	n.waiting[id][w] = struct{}{}
	if !n.started && n.ended.Err() == nil {
		n.started = true
		n.running.Go(n.listen)
		n.running.Go(n.look)
	}
	return w
}

func (w *subscriber) done() {
	w.news.mu.Lock()
	defer w.news.mu.Unlock()
	delete(w.news.waiting[w.id], w)
	if len(w.news.waiting[w.id]) == 0 {
		delete(w.news.waiting, w.id)
	}
}

func (n *news) wake(ids ...uuid.UUID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, id := range ids {
		for w := range n.waiting[id] {
			signal(w.woken)
		}
	}
}

// tell wakes the subscribers of this process, and keeps the ids for Announce, which notifies the other processes.
func (n *news) tell(ids []uuid.UUID) {
	if len(ids) == 0 {
		return
	}
	n.wake(ids...)
	n.mu.Lock()
	for _, id := range ids {
		n.telling[id] = struct{}{}
	}
	n.mu.Unlock()
	signal(n.untold)
}

// listen receives the news of other processes until the DB is closed. While the connection is lost, look takes over.
func (n *news) listen() {
	n.db.pg.Listen(n.ended, newsChannel, pg.Subscriber{
		Begun: func() {
			n.hears.Store(true)
			n.lookOnce() // for news before this moment
		},
		Heard: func(payload string) {
			for text := range strings.FieldsSeq(payload) {
				if id, err := uuid.Parse(text); err == nil {
					n.wake(id)
				}
			}
		},
		Lost: func(error) { n.hears.Store(false) },
	})
}

// look backs up the notifications: while none can be received, it sends one query a second for all subscribers.
func (n *news) look() {
	for n.ended.Err() == nil {
		pause(n.ended, lookEvery)
		if !n.hears.Load() {
			n.lookOnce()
		}
	}
}

func (n *news) lookOnce() {
	var asked sqlc.FindNewsParams
	n.mu.Lock()
	for id, waiters := range n.waiting {
		for w := range waiters {
			asked.Ids, asked.Positions = append(asked.Ids, id), append(asked.Positions, w.position)
		}
	}
	n.mu.Unlock()
	if len(asked.Ids) == 0 {
		return
	}
	// After an error the next look follows, and each subscriber looks once more at its deadline.
	if ids, err := n.db.read().FindNews(n.ended, asked); err == nil {
		n.wake(ids...)
	}
}

// close stops the goroutines. A subscriber that still waits is woken by its own deadline.
func (n *news) close() {
	n.mu.Lock()
	n.end()
	n.mu.Unlock()
	n.running.Wait()
}

// notify notifies the other processes of the news that were not sent yet.
func (n *news) notify(ctx context.Context) error {
	n.mu.Lock()
	ids := n.telling
	n.telling = map[uuid.UUID]struct{}{}
	n.mu.Unlock()
	var payloads []string
	var payload []string
	for id := range ids {
		if payload = append(payload, id.String()); len(payload) == idsPerNotification {
			payloads, payload = append(payloads, strings.Join(payload, " ")), nil
		}
	}
	if len(payload) > 0 {
		payloads = append(payloads, strings.Join(payload, " "))
	}
	return n.db.pg.Notify(ctx, newsChannel, payloads...)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
