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

// request appends the n-th request of a measurement, as it goes over the wire; client says which of the connections
// sends it.
type request func(b []byte, client, n int) []byte

// load is a stream of requests over connections that stay open. It speaks just as much HTTP as the service needs to
// hear, since it shares the cores with what it measures.
type load struct {
	address string // host:port
	clients int
	request request
	want    int // the only status that is no error
	// requests a second, whether the answers come or not; 0: each client asks again as soon as it is answered
	rate float64
}

// run sends requests for warm-up and duration and measures the latter. A status other than the wanted one is an error.
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
			c.SetDeadline(end.Add(patience)) //nolint:errcheck // a connection that is closed says so at the first request
			for ctx.Err() == nil && failed.Load() == nil {
				n := int(next.Add(1)) - 1
				sent := time.Now()
				if l.rate > 0 {
					// Late is late: the time a request had to wait for its turn counts.
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

// patience outlasts every answer of the service, also one that is waited for.
const patience = 70 * time.Second

// connection is a client's end of a connection that is used again and again.
type connection struct {
	net.Conn
	reader *bufio.Reader
	body   []byte
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

// exchange sends a request and reads the answer. The body is good until the next call.
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

// take reads so many bytes of the body.
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
