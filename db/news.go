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
	// newsChannel carries what has happened between processes: ids of jobs that have ended and of legal entities that have new events.
	newsChannel = "reiestr_news"
	// idsPerNotification keeps a notification below PostgreSQL's 8000 bytes.
	idsPerNotification = 200
	// publishEvery bounds how often a process publishes while it writes events all the time: each time costs a commit. Readers of a feed
	// publish by themselves, so that only those who wait wait for it.
	publishEvery = 50 * time.Millisecond
	// lookEvery is how often one look is taken for all who wait in this process, while it hears no notifications.
	lookEvery = time.Second
)

// news wakes those who wait for the end of a job or for events of a legal entity. What happens in this process wakes them at once, what
// happens in another one by a notification: one connection of its own listens for all who wait here, from the first of them on.
type news struct {
	db     *statements
	hears  atomic.Bool   // the listening connection stands
	untold chan struct{} // one place: there is something to tell the other processes

	mu      sync.Mutex
	waiting map[uuid.UUID]map[*waiter]struct{}
	telling map[uuid.UUID]struct{}
	ended   context.Context // the DB's life
	end     context.CancelFunc
	running sync.WaitGroup
	started bool
}

func newNews(s *statements) *news {
	n := &news{
		db: s, untold: make(chan struct{}, 1),
		waiting: map[uuid.UUID]map[*waiter]struct{}{}, telling: map[uuid.UUID]struct{}{},
	}
	n.ended, n.end = context.WithCancel(context.Background())
	return n
}

// waiter is somebody who waits for news of one id. Wake-ups may come without need, so what they are about has to be looked at.
type waiter struct {
	news     *news
	id       uuid.UUID
	position int64 // in the feed of a legal entity: only what is behind it is news
	woken    chan struct{}
}

// wait begins to wait. Whoever waits takes the first look afterwards, so that nothing that happens in between is missed.
func (n *news) wait(id uuid.UUID, position int64) *waiter {
	w := &waiter{n, id, position, make(chan struct{}, 1)}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiting[id] == nil {
		n.waiting[id] = map[*waiter]struct{}{}
	}
	n.waiting[id][w] = struct{}{}
	if !n.started && n.ended.Err() == nil {
		n.started = true
		n.running.Go(n.listen)
		n.running.Go(n.look)
	}
	return w
}

func (w *waiter) done() {
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

// tell wakes those who wait in this process, and leaves the ids for Announce to tell the others.
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

// listen hears what other processes tell, until the DB is closed. While the connection is lost, look takes over.
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

// look is the net under the notifications: while there are none to be heard, one query a second for all who wait.
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
	// Without an answer there is the next look, and the last one of each waiter at its deadline.
	if ids, err := n.db.read().FindNews(n.ended, asked); err == nil {
		n.wake(ids...)
	}
}

// close ends what runs in the background; who still waits is woken by its own deadline.
func (n *news) close() {
	n.mu.Lock()
	n.end()
	n.mu.Unlock()
	n.running.Wait()
}

// notify tells the other processes what is still untold.
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
