package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// line is a TCP port of the loopback interface that leads to another address. Faults disturb the connections that pass
// through it.
type line struct {
	listener net.Listener
	dial     func(context.Context) (net.Conn, error)

	mu    sync.Mutex
	pairs map[*pair]struct{}
	still chan struct{} // closed when bytes may pass again; nil: they pass
}

// pair is a connection to the line and the one that the line has made for it.
type pair struct {
	near, far net.Conn
	halve     atomic.Bool // the next bytes from far are halved, and both connections end
}

func (p *pair) close() { _ = errors.Join(p.near.Close(), p.far.Close()) }

// newLine listens until ctx ends.
func newLine(ctx context.Context, dial func(context.Context) (net.Conn, error)) (*line, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &line{listener: listener, dial: dial, pairs: map[*pair]struct{}{}}
	context.AfterFunc(ctx, func() {
		listener.Close()
		l.cut()
	})
	go l.accept(ctx)
	return l, nil
}

// address is host:port.
func (l *line) address() string { return l.listener.Addr().String() }

func (l *line) accept(ctx context.Context) {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		go l.carry(ctx, near)
	}
}

func (l *line) carry(ctx context.Context, near net.Conn) {
	far, err := l.dial(ctx)
	if err != nil {
		near.Close()
		return
	}
	p := &pair{near: near, far: far}
	l.mu.Lock()
	l.pairs[p] = struct{}{}
	l.mu.Unlock()
	go func() { l.copy(p, near, far, nil) }()
	l.copy(p, far, near, &p.halve)
	l.mu.Lock()
	delete(l.pairs, p)
	l.mu.Unlock()
}

// copy carries bytes in one direction until one end closes, and then closes both.
func (l *line) copy(p *pair, from io.Reader, to io.Writer, halve *atomic.Bool) {
	defer p.close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		l.mu.Lock()
		still := l.still
		l.mu.Unlock()
		if still != nil {
			<-still
		}
		if halve != nil && halve.Load() {
			_, _ = to.Write(buffer[:n/2])
			return
		}
		if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
			return
		}
	}
}

func (l *line) each(do func(*pair)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.pairs {
		do(p)
	}
}

// cut ends all connections at once.
func (l *line) cut() { l.each((*pair).close) }

// halve ends each connection in the middle of the next bytes that come from the far end.
func (l *line) halve() { l.each(func(p *pair) { p.halve.Store(true) }) }

// stall lets no byte pass for a while.
func (l *line) stall(d time.Duration) {
	still := make(chan struct{})
	l.mu.Lock()
	l.still = still
	l.mu.Unlock()
	time.Sleep(d)
	l.mu.Lock()
	l.still = nil
	l.mu.Unlock()
	close(still)
}
