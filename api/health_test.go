package api_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/dev/testdb"
	"github.com/reiestr/reiestr/migrations"
)

// counter counts the statements that contain a text.
type counter struct {
	text string
	seen atomic.Int64
}

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.Contains(data.SQL, c.text) {
		c.seen.Add(1)
	}
	return ctx
}

func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestReadyzAsksTheDatabaseOnceASecond: callers need no token, so many calls must not become many queries.
func TestReadyzAsksTheDatabaseOnceASecond(t *testing.T) {
	t.Parallel()
	queries := &counter{text: "CheckReadiness"}
	app, err := db.Open(t.Context(), db.Config{URL: testdb.New(t).URL, Role: db.App, TimeZone: "Europe/Kyiv",
		Tracer: queries})
	must(t, err)
	t.Cleanup(app.Close)
	must(t, app.Ready(t.Context(), migrations.Latest())) // opens a connection, which may take longer than a call waits
	var needed atomic.Int64
	needed.Store(migrations.Latest())
	handler := rest.Health(rest.Config{
		Log:   slog.New(slog.DiscardHandler),
		Ready: func(ctx context.Context) error { return app.Ready(ctx, needed.Load()) },
	})
	// ask makes 300 calls at once. It returns how long they took, how many queries reached the database, and the codes of
	// the answers.
	ask := func() (took time.Duration, asked int64, codes map[int]int) {
		start, before := time.Now(), queries.seen.Load()
		codes = map[int]int{}
		var mu sync.Mutex
		var running sync.WaitGroup
		for range 300 {
			running.Go(func() {
				answer := httptest.NewRecorder()
				handler.ServeHTTP(answer, httptest.NewRequest("GET", "/readyz", http.NoBody))
				mu.Lock()
				defer mu.Unlock()
				codes[answer.Code]++
			})
		}
		running.Wait()
		return time.Since(start), queries.seen.Load() - before, codes
	}
	check := func(code int) {
		t.Helper()
		took, asked, codes := ask()
		if most := 1 + int64(took/time.Second); asked < 1 || asked > most || codes[code] != 300 {
			t.Errorf("asked %d times in %v, codes %v", asked, took, codes)
		}
	}
	// The first question opens a connection, for which a busy machine may need longer than a caller waits.
	must(t, app.Ready(t.Context(), needed.Load()))
	check(200)
	// A failure is shared too.
	needed.Add(1)
	time.Sleep(time.Second)
	check(503)
}
