package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// hold opens many connections at once in the ways that cost a service most, and measures how it answers others
// meanwhile.
func (w *walker) hold(ctx context.Context, connections int, out io.Writer) error {
	for _, way := range []struct {
		name  string
		count int
		open  func(ctx context.Context, address string) (net.Conn, error)
	}{
		{"idle after one answer", connections, w.idle},
		{"half a head", connections, w.halfHead},
		{"reads no answer", connections / 10, w.readsNothing},
	} {
		begun := time.Now()
		held, err := w.openMany(ctx, way.count, way.open)
		if err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
		opened := time.Since(begun)
		took, err := w.meanwhile(ctx)
		now, most, failed := w.memory()
		for _, c := range held {
			c.Close()
		}
		if err != nil || failed != nil {
			return fmt.Errorf("%s: %w %w", way.name, err, failed)
		}
		fmt.Fprintf(
			out, "%-24s %6d connections in %s; others answered in %s (median) to %s; memory %d MiB, %d at most\n", way.name,
			len(held),
			opened.Round(time.Millisecond),
			took[len(took)/2].Round(10*time.Microsecond),
			took[len(took)-1].Round(10*time.Microsecond),
			now, most,
		)
	}
	return w.wait(ctx, connections/10, out)
}

// openMany opens connections, 32 at a time.
func (w *walker) openMany(ctx context.Context, count int, open func(context.Context, string) (net.Conn, error)) (
	held []net.Conn, err error) {
	var mu sync.Mutex
	var opening sync.WaitGroup
	numbers := make(chan int)
	for range 32 {
		opening.Go(func() {
			for range numbers {
				c, failed := open(ctx, w.service.Address)
				mu.Lock()
				if failed != nil {
					err = failed
				} else {
					held = append(held, c)
				}
				mu.Unlock()
			}
		})
	}
	for n := range count {
		numbers <- n
	}
	close(numbers)
	opening.Wait()
	return held, err
}

func dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(5 * time.Minute))
}

// idle has one request answered, and keeps the connection.
func (w *walker) idle(ctx context.Context, address string) (net.Conn, error) {
	c, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return c, err
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return c, err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return c, err
}

// halfHead sends half of a head. The service closes the connection after five seconds.
func (w *walker) halfHead(ctx context.Context, address string) (net.Conn, error) {
	c, err := dial(ctx, address)
	if err == nil {
		_, err = io.WriteString(c, "POST /api/licenses HTTP/1.1\r\nHost: x\r\nX-Half: ")
	}
	return c, err
}

// readsNothing asks for long feeds again and again, and reads none of them. The writing stops when the service no
// longer reads.
func (w *walker) readsNothing(ctx context.Context, address string) (net.Conn, error) {
	c, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	q := request{method: "GET", target: "/api/events?limit=300", header: []string{"Host: x",
		"Authorization: Bearer {{token}}", "api-key: {{key}}"}}
	text := w.expand(q.octets())
	_, err = c.Write(slices.Repeat(text, 20))
	return c, err
}

// meanwhile sends a hundred right requests, one after another, and returns in what times they were answered, in order.
func (w *walker) meanwhile(ctx context.Context) (took []time.Duration, err error) {
	for range 100 {
		begun := time.Now()
		code, text, err := w.call(ctx, http.MethodGet, "/api/jobs/"+w.job, "")
		if err != nil || code != http.StatusOK {
			return nil, fmt.Errorf("a right request meanwhile: %d %s %w", code, text, err)
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	return took, nil
}

// patient is how many seconds the waiters wait.
const patient = 8

// wait has callers wait for an event at the end of the feed, by Prefer.
func (w *walker) wait(ctx context.Context, count int, out io.Writer) error {
	cursor, err := w.endOfFeed(ctx)
	if err != nil {
		return err
	}
	text := w.expand(request{method: "GET", target: "/api/events?after=" + cursor, header: []string{"Host: x",
		"Authorization: Bearer {{token}}", "api-key: {{key}}", fmt.Sprintf("Prefer: wait=%d", patient)}}.octets())
	begun := time.Now()
	held, err := w.openMany(ctx, count, func(ctx context.Context, address string) (net.Conn, error) {
		c, err := dial(ctx, address)
		if err == nil {
			_, err = c.Write(text)
		}
		return c, err
	})
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	if err != nil {
		return err
	}
	took, err := w.meanwhile(ctx)
	if err != nil {
		return err
	}
	now, most, err := w.memory()
	if err != nil {
		return err
	}
	for _, c := range held {
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return fmt.Errorf("a waiter has no answer: %w", err)
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("a waiter is answered %s", response.Status)
		}
	}
	fmt.Fprintf(out, "%-24s %6d connections, all answered after %s; others answered in %s (median) to %s; "+
		"memory %d MiB, %d at most\n", fmt.Sprintf("wait %d s for an event", patient), len(held),
		time.Since(begun).Round(10*time.Millisecond), took[len(took)/2].Round(10*time.Microsecond),
		took[len(took)-1].Round(10*time.Microsecond), now, most)
	return nil
}

// endOfFeed reads the feed of events to its end.
func (w *walker) endOfFeed(ctx context.Context) (string, error) {
	cursor := ""
	for range 10000 {
		path := "/api/events?limit=300"
		if cursor != "" {
			path += "&after=" + cursor
		}
		code, text, err := w.call(ctx, http.MethodGet, path, "")
		var feed struct {
			Data   []json.RawMessage
			Cursor string
		}
		if err == nil {
			err = json.Unmarshal(text, &feed)
		}
		if err != nil || code != http.StatusOK {
			return "", fmt.Errorf("reading the feed: %d %s %w", code, strings.TrimSpace(string(text)), err)
		}
		if cursor = feed.Cursor; len(feed.Data) == 0 {
			return cursor, nil
		}
	}
	return "", fmt.Errorf("the feed has no end")
}
