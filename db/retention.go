package db

import "time"

// ShortestRetention is how long jobs and events are kept at least, whatever a Retention says. The stored answer of an
// idempotency key is kept for as long, and it names its job. The functions of migration 12 have the same limit.
const ShortestRetention = 24 * time.Hour

// prunedAtOnce is how many jobs, or places of events in feeds, one transaction removes.
const prunedAtOnce = 1000

// Retention holds the times for which ended jobs and events are kept.
type Retention struct {
	Jobs   time.Duration // after their end
	Events time.Duration // after the change that the event reports
}

// Pruned counts the rows that DB.Prune has removed.
type Pruned struct {
	Jobs            int64 `json:"jobs"`
	Events          int64 `json:"events"`
	IdempotencyKeys int64 `json:"idempotency_keys"`
}
