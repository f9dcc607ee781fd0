package rest

import (
	"context"
	"testing"
	"time"
)

// TestPlacesOfAnOverloadedProcess: when all places are taken a request waits for one, and is refused at once only if
// this has lasted; when half of the places are free again, requests wait again.
func TestPlacesOfAnOverloadedProcess(t *testing.T) {
	t.Parallel()
	p := newPlaces(4)
	p.patience = time.Hour
	var leaves []func()
	for range 4 {
		leave, ok := p.enter(t.Context())
		if !ok {
			t.Fatal("a free place is not given")
		}
		leaves = append(leaves, leave)
	}
	wait := func() (entered chan bool) {
		entered = make(chan bool, 1)
		go func() {
			_, ok := p.enter(t.Context())
			entered <- ok
		}()
		return entered
	}
	burst := wait()
	select {
	case ok := <-burst:
		t.Fatalf("a request of a burst does not wait: %t", ok)
	case <-time.After(50 * time.Millisecond):
	}
	leaves[0]()
	leaves[0]() // a second call gives nothing back
	if !<-burst {
		t.Error("a request of a burst gets no place")
	}

	p.begun = p.begun.Add(-2 * overloadAfter) // as if the places had been taken for so long
	if _, ok := p.enter(t.Context()); ok {
		t.Error("a request beyond the places of an overloaded process is let in")
	}
	if len(p.taken) != 4 {
		t.Errorf("%d places are taken, want 4", len(p.taken))
	}

	for range 3 {
		<-p.taken
	}
	for range 3 { // the first one finds half of the places free
		if _, ok := p.enter(t.Context()); !ok {
			t.Error("a free place is not given after the overload")
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := p.enter(gone); ok || len(p.taken) != 4 {
		t.Error("a caller that has gone gets a place")
	}
}
