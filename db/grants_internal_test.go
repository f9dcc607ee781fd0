package db

import (
	"testing"
	"time"
)

// TestGrantsCount checks which entries count, with a clock that the test sets.
func TestGrantsCount(t *testing.T) {
	t.Parallel()
	one, other := secrets{token: [32]byte{1}}, secrets{token: [32]byte{2}}
	grantOf := func(epoch int64) knownGrant { return knownGrant{epoch: epoch, asOf: time.Now(), validFor: time.Hour} }
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	for _, test := range []struct {
		name string
		add  func(*grants)
		want bool
	}{
		{"nothing known", func(*grants) {}, false},
		{"just heard", func(g *grants) { g.add(one, grantOf(1), ago(0)) }, true},
		{"an entry of a past epoch", func(g *grants) {
			g.add(one, grantOf(1), ago(0))
			g.add(other, grantOf(2),
				ago(0))
		}, false},
		{"a late answer, from before a revocation", func(g *grants) {
			g.add(other, grantOf(2), ago(0))
			g.add(one, grantOf(1), ago(10*time.Millisecond))
		}, false},
		{"a late answer of the same epoch", func(g *grants) {
			g.add(other, grantOf(1), ago(0))
			g.add(one, grantOf(1), ago(10*time.Millisecond))
		}, true},
		{"an epoch confirmed by another query",
			func(g *grants) { g.add(one, grantOf(1), ago(time.Hour)); g.add(other, grantOf(1), ago(0)) }, true},
		{"an epoch that was not asked for lately",
			func(g *grants) { g.add(one, grantOf(1), ago(trustFor+time.Millisecond)) }, false},
		{"a smaller epoch, of a restored database",
			func(g *grants) { g.add(one, grantOf(7), ago(time.Second)); g.add(other, grantOf(3), ago(0)) }, false},
	} {
		g := newGrants()
		test.add(g)
		if _, ok := g.get(one); ok != test.want {
			t.Errorf("%s: counts %t", test.name, ok)
		}
	}

	g := newGrants()
	g.add(one, grantOf(1), ago((renewAfter+trustFor)/2))
	if _, ok := g.get(one); ok {
		t.Error("no request renews the epoch")
	}
	if _, ok := g.get(one); !ok {
		t.Error("several requests renew the epoch")
	}
}

// TestNoGrantIsTrustedForMoreThanHalfASecond: while the request that asks for the epoch again gets no answer, the
// others trust the old epoch for half a second, and then ask too.
func TestNoGrantIsTrustedForMoreThanHalfASecond(t *testing.T) {
	t.Parallel()
	one := secrets{token: [32]byte{1}}
	g := newGrants()
	g.add(one, knownGrant{epoch: 1}, time.Now().Add(-501*time.Millisecond))
	for n := range 3 {
		if _, ok := g.get(one); ok {
			t.Errorf("request %d trusts the old epoch", n+1)
		}
	}
}

// TestGrantsAreBounded: however many tokens are in use, the cache has 32,768 entries at most, some 13 MB.
func TestGrantsAreBounded(t *testing.T) {
	t.Parallel()
	const most = 32_768
	g := newGrants()
	for n := range most + 100 {
		g.add(secrets{token: [32]byte{byte(n), byte(n >> 8), byte(n >> 16)}}, knownGrant{epoch: 1}, time.Now())
	}
	if n := g.known.Len(); n != most {
		t.Errorf("%d entries", n)
	}
}
