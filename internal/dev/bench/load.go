package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// request appends the n-th request of a measurement, as bytes of HTTP. client is the number of the connection that
// sends it.
type request func(b []byte, client, n int) []byte

// load is a stream of requests over connections that stay open. It implements only the part of HTTP that the service
// needs, because it shares the processor cores with the service.
type load struct {
	address string // host:port
	clients int
	request request
	want    int // the status of every answer; any other is an error
	// requests a second, however slow the answers are; 0: each client sends its next request when it has its answer
	rate float64
}

// run sends requests for warm-up and duration, and measures those of the duration. A status other than want is an
// error.
func (l load) run(ctx context.Context, warmUp, duration time.Duration) (sample, error) {
	conns, err := dial(ctx, l.address, l.clients)
	if err != nil {
		return sample{}, err
	}
	defer closeAll(conns)
	var (
		next   atomic.Int64 // number of the next request
		failed atomic.Pointer[error]
		all    = make([][]event, l.clients)
		group  sync.WaitGroup
	)
	before := ownCPU()
	start := time.Now()
	end := start.Add(warmUp + duration)
	for i, c := range conns {
		group.Go(func() {
			events := make([]event, 0, 1<<14)
			var message []byte
			c.SetDeadline(end.Add(patience)) //nolint:errcheck // the first request reports a closed connection
			for ctx.Err() == nil && failed.Load() == nil {
				n := int(next.Add(1)) - 1
				sent := time.Now()
				if l.rate > 0 {
					// The latency counts from the time at which the request was due, also where it was sent later.
					sent = start.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
					time.Sleep(time.Until(sent))
				}
				if !sent.Before(end) {
					break
				}
				message = l.request(message[:0], i, n)
				code, body, err := c.exchange(message)
				if err == nil && code != l.want {
					err = fmt.Errorf("request %d was answered %d instead of %d: %s\n%s", n, code, l.want, body, message)
				}
				if err != nil {
					failed.CompareAndSwap(nil, &err)
					break
				}
				done := time.Now()
				events = append(events, event{done.Sub(start), done.Sub(sent)})
			}
			all[i] = events
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		return sample{}, *err
	}
	if err := ctx.Err(); err != nil {
		return sample{}, err
	}
	var events []event
	for _, e := range all {
		events = append(events, e...)
	}
	s := window(events, warmUp, duration)
	s.total = len(events)
	s.client = perThousand(ownCPU()-before, true, len(events))
	return s, nil
}

// patience is longer than any answer of the service takes, waiting for a job included.
const patience = 70 * time.Second

// connection is the client's end of a connection that stays open for many requests.
type connection struct {
	net.Conn
	reader *bufio.Reader
	body   []byte

	retryAfter string // of the last answer
}

func dial(ctx context.Context, address string, n int) ([]*connection, error) {
	var dialer net.Dialer
	conns := make([]*connection, 0, n)
	for range n {
		c, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			closeAll(conns)
			return nil, err
		}
		conns = append(conns, &connection{Conn: c, reader: bufio.NewReaderSize(c, 16<<10)})
	}
	return conns, nil
}

func closeAll(conns []*connection) {
	for _, c := range conns {
		c.Close()
	}
}

// exchange sends a request and reads the answer. The body is valid until the next call.
func (c *connection) exchange(message []byte) (code int, body []byte, err error) {
	if _, err := c.Write(message); err != nil {
		return 0, nil, err
	}
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, nil, fmt.Errorf("status line %q", line)
	}
	if code, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, fmt.Errorf("status line %q", line)
	}
	length, chunked := 0, false
	c.retryAfter = ""
	for {
		line, err = c.reader.ReadSlice('\n')
		if err != nil {
			return code, nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case len(name) == len("Content-Length") && bytes.EqualFold(name, []byte("Content-Length")):
			length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
		case len(name) == len("Transfer-Encoding") && bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		case len(name) == len("Retry-After") && bytes.EqualFold(name, []byte("Retry-After")):
			c.retryAfter = string(bytes.TrimSpace(value))
		}
		if err != nil {
			return code, nil, err
		}
	}
	c.body = c.body[:0]
	if !chunked {
		err = c.take(length)
		return code, c.body, err
	}
	for {
		line, err = c.reader.ReadSlice('\n')
		if err != nil {
			return code, nil, err
		}
		size, err := strconv.ParseInt(string(bytes.TrimRight(line, "\r\n")), 16, 32)
		if err != nil {
			return code, nil, err
		}
		if err := c.take(int(size)); err != nil {
			return code, nil, err
		}
		if _, err := c.reader.Discard(len("\r\n")); err != nil {
			return code, nil, err
		}
		if size == 0 {
			return code, c.body, nil
		}
	}
}

// take reads the next n bytes of the body.
func (c *connection) take(n int) error {
	have := len(c.body)
	c.body = append(c.body, make([]byte, n)...)
	_, err := io.ReadFull(c.reader, c.body[have:])
	if errors.Is(err, io.EOF) && n > 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// ownCPU is the CPU time of this process.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
