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
	// newsChannel carries news between processes: ids of jobs that have ended, and of legal entities that have new events.
	newsChannel = "reiestr_news"
	// idsPerNotification keeps a notification below PostgreSQL's 8000 bytes.
	idsPerNotification = 200
	// publishEvery is the time between two publications of a process that writes events all the time: a publication costs
	// a commit. Readers of a feed publish by themselves, so only subscribers that wait lose this time.
	publishEvery = 50 * time.Millisecond
	// lookEvery is the time between two looks for all subscribers of this process, while no notifications can be heard.
	lookEvery = time.Second
)

// news wakes subscribers: requests that wait for the end of a job or for events of a legal entity. News of this process
// wake them at once. News of another process come by a notification: one connection beside the pool listens for all
// subscribers, from the first of them on.
type news struct {
	db     *statements
	hears  atomic.Bool   // the listening connection stands
	untold chan struct{} // one place: there are news for the other processes

	mu      sync.Mutex
	waiting map[uuid.UUID]map[*subscriber]struct{}
	telling map[uuid.UUID]struct{} // news for the other processes
	ended   context.Context        // the DB's life
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

// subscriber waits for news of one id. It may be woken without need, so it looks at the job or the feed when it is
// woken.
type subscriber struct {
	news     *news
	id       uuid.UUID
	position int64 // in the feed of a legal entity: only what is behind it is news
	woken    chan struct{}
}

// subscribe begins to wait. The subscriber takes its first look afterwards, so that it misses nothing that happens in
// between.
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

// tell wakes the subscribers of this process, and leaves the ids for Announce, which tells the other processes.
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

// listen hears the news of other processes, until the DB is closed. While the connection is lost, look takes over.
func (n *news) listen() {
	n.db.pg.Listen(n.ended, newsChannel, pg.Subscriber{
		Begun: func() {
			n.hears.Store(true)
			n.lookOnce() // at what happened before this moment
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

// look is the net under the notifications: while none can be heard, it asks one query a second for all subscribers.
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
	// Without an answer there is the next look, and the last look of each subscriber at its deadline.
	if ids, err := n.db.read().FindNews(n.ended, asked); err == nil {
		n.wake(ids...)
	}
}

// close ends the background work. A subscriber that still waits is woken by its own deadline.
func (n *news) close() {
	n.mu.Lock()
	n.end()
	n.mu.Unlock()
	n.running.Wait()
}

// notify sends the news that the other processes have not been told yet.
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
