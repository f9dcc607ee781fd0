package db

import "time"

// ShortestRetention is how long jobs and events are kept at least, whatever a Retention says: the stored answer of an
// idempotency key is kept for as long, and it names its job. The functions of migration 12 have the same bound.
const ShortestRetention = 24 * time.Hour

// prunedAtOnce is how many jobs, or places in the feeds of events, one transaction removes.
const prunedAtOnce = 1000

// Retention says how long ended jobs and events are kept.
type Retention struct {
	Jobs   time.Duration // after their end
	Events time.Duration // after the change that they tell of
}

// Pruned is how many rows DB.Prune has removed.
type Pruned struct {
	Jobs            int64 `json:"jobs"`
	Events          int64 `json:"events"`
	IdempotencyKeys int64 `json:"idempotency_keys"`
}
