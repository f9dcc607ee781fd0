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
