package main

import (
	"math"
	"slices"
	"time"
)

// sample is one measurement: the number of transactions or requests, their speed and their latencies.
type sample struct {
	total     int     // with those of the warm-up
	count     int     // in the measured window
	perSecond float64 // in that window
	p50, p99  time.Duration
	// CPU time for a thousand transactions or requests, NaN where the system does not show it: of the service, of all
	// PostgreSQL processes, of the client.
	service, postgres, client float64 // milliseconds
}

// event is the end of one transaction or request.
type event struct {
	at   time.Duration // since one moment for all events of a measurement
	took time.Duration
}

// window summarises the events of the duration after the warm-up. The warm-up begins with the first event.
func window(events []event, warmUp, duration time.Duration) sample {
	if len(events) == 0 {
		return sample{}
	}
	begin := slices.MinFunc(events, func(a, b event) int { return int(a.at - b.at) }).at + warmUp
	var took []time.Duration
	for _, e := range events {
		if e.at > begin && e.at <= begin+duration {
			took = append(took, e.took)
		}
	}
	slices.Sort(took)
	return sample{
		count: len(took), perSecond: float64(len(took)) / duration.Seconds(), p50: percentile(took, 0.50),
		p99:     percentile(took, 0.99),
		service: math.NaN(), postgres: math.NaN(), client: math.NaN(),
	}
}

// percentile of sorted values, by the nearest rank.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(p*float64(len(sorted))))-1)]
}

// perThousand is CPU time for a thousand, in milliseconds.
func perThousand(used time.Duration, known bool, count int) float64 {
	if !known || count == 0 {
		return math.NaN()
	}
	return float64(used.Microseconds()) / float64(count)
}

// times is the sample of n requests for each transaction: the requests share the latency of the transaction.
func (s sample) times(n int) sample {
	s.total, s.count, s.perSecond = s.total*n, s.count*n, s.perSecond*float64(n)
	s.service, s.postgres, s.client = s.service/float64(n), s.postgres/float64(n), s.client/float64(n)
	return s
}
