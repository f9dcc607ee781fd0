package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
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
		{"head byte by byte", connections, drip(w.halfHead, headBound, "")},
		{"body byte by byte", connections, drip(w.halfBody, bodyBound, "HTTP/1.1 400")},
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
		cut, notCut := cutAfter(held)
		for _, c := range held {
			c.Close()
		}
		if err := errors.Join(err, failed, notCut); err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
		fmt.Fprintf(
			out, "%-24s %6d connections in %s; others answered in %s (median) to %s; memory %d MiB, %d at most%s\n", way.name,
			len(held),
			opened.Round(time.Millisecond),
			took[len(took)/2].Round(10*time.Microsecond),
			took[len(took)-1].Round(10*time.Microsecond),
			now, most, cut,
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

// halfBody sends a right head, and the beginning of a body.
func (w *walker) halfBody(ctx context.Context, address string) (net.Conn, error) {
	c, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	q := request{method: "POST", target: "/api/licenses", header: []string{"Host: x", "Authorization: Bearer {{token}}",
		"api-key: {{key}}", "Content-Type: application/json", "Content-Length: 100000"}}
	_, err = c.Write(append(w.expand(q.octets()), '{'))
	return c, err
}

// The service gives a client so much time for a head and for a body.
const (
	headBound = 5 * time.Second
	bodyBound = 15 * time.Second
)

// dripping is a connection whose client sends a byte each second until the service closes it.
type dripping struct {
	net.Conn
	bound  time.Duration
	answer string // how the answer begins that the service gives before it closes the connection; empty: there is none
	end    chan cutOff
}

// cutOff is the end of a dripping connection.
type cutOff struct {
	after time.Duration // from the opening
	said  string
}

// drip has the connections of a way send more, slowly.
func drip(open func(context.Context, string) (net.Conn, error), bound time.Duration, answer string) func(
	context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		begun := time.Now()
		c, err := open(ctx, address)
		if err != nil {
			return nil, err
		}
		d := &dripping{c, bound, answer, make(chan cutOff, 1)}
		go func() {
			said, _ := io.ReadAll(c) // that the service closes it may be an error
			d.end <- cutOff{time.Since(begun), string(said)}
		}()
		go func() {
			for { // until the connection is closed on either side
				if _, err := io.WriteString(c, "a"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		return d, nil
	}
}

// cutAfter waits until the service has closed the dripping connections, and says when it did; it says nothing of other
// connections.
func cutAfter(held []net.Conn) (said string, err error) {
	const slack = 20 * time.Second // a busy machine
	var most time.Duration
	refused := 0
	late := time.After(bodyBound + slack)
	for _, c := range held {
		d, ok := c.(*dripping)
		if !ok {
			return "", nil
		}
		select {
		case end := <-d.end:
			if strings.HasPrefix(end.said, "HTTP/1.1 503") && d.answer != "" && end.after < d.bound+slack {
				refused++ // so many heads at once are an overload
				continue
			}
			if end.after < d.bound/2 || end.after > d.bound+slack || !strings.HasPrefix(end.said, d.answer) {
				return "", fmt.Errorf("cut off after %s with %q, want after %s with %q", end.after, end.said, d.bound, d.answer)
			}
			most = max(most, end.after)
		case <-late:
			return "", fmt.Errorf("a connection is not cut off")
		}
	}
	if refused == len(held) {
		return "", errors.New("all are refused, so none has shown the bound")
	}
	said = fmt.Sprintf("; all cut off after %s at most", most.Round(10*time.Millisecond))
	if refused > 0 {
		said += fmt.Sprintf(", %d of them refused as an overload", refused)
	}
	return said, nil
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
// A request that an overloaded process refuses is sent again, as its caller would do; its time has all its attempts.
func (w *walker) meanwhile(ctx context.Context) (took []time.Duration, err error) {
	for range 100 {
		begun := time.Now()
		code, text, err := w.call(ctx, http.MethodGet, "/api/jobs/"+w.job, "")
		for code == http.StatusServiceUnavailable && time.Since(begun) < 20*time.Second {
			time.Sleep(100 * time.Millisecond)
			code, text, err = w.call(ctx, http.MethodGet, "/api/jobs/"+w.job, "")
		}
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
