package telemetry

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/recent"
)

const (
	queueKept    = time.Second     // all scrapes within this time share one measurement of the queue
	queueTimeout = 2 * time.Second // of the query that measures the queue
)

// mostIgnoredKeys bounds the time series of ignored keys, which clients choose. Further keys count as rest.OtherKey.
const mostIgnoredKeys = 200

// metrics are explained in docs/metrics.md, and a test compares both. Values of labels come from fixed sets only
// (operations, codes, rules, names), so that the number of time series is bounded; only of ignored keys the first that
// come are taken.
type metrics struct {
	requests     *prometheus.HistogramVec
	refusals     *prometheus.CounterVec
	transactions *prometheus.HistogramVec
	retries      *prometheus.CounterVec
	jobs         *prometheus.CounterVec
	batches      *prometheus.HistogramVec
	pruned       *prometheus.CounterVec
	ignored      *prometheus.CounterVec
	ignoredKeys  *named
}

// named are the ignored keys that have a time series, by operation.
type named struct {
	mu    sync.Mutex
	pairs map[[2]string]bool
}

// label is the key itself, or rest.OtherKey if there are too many.
func (n *named) label(operation, key string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	pair := [2]string{operation, key}
	if !n.pairs[pair] {
		if len(n.pairs) == mostIgnoredKeys {
			return rest.OtherKey
		}
		n.pairs[pair] = true
	}
	return key
}

func newMetrics(r *prometheus.Registry) metrics {
	seconds := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	m := metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "reiestr_http_request_duration_seconds",
			Help: "Time to answer requests, by operation and status code.", Buckets: seconds}, []string{"operation", "code"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "reiestr_refusals_total",
			Help: "Requests that a rule of a ladder refused, by operation and rule."}, []string{"operation", "refusal"}),
		transactions: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "reiestr_transaction_duration_seconds",
			Help: "Time of database transactions with all their tries, by name and outcome.", Buckets: seconds},
			[]string{"transaction", "outcome"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "reiestr_transaction_retries_total",
			Help: "Repetitions of transactions that the database rolled back."}, []string{"transaction"}),
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "reiestr_jobs_ended_total",
			Help: "Jobs that workers of this process ended, by action, state and the rule that refused."},
			[]string{"action", "status", "refusal"}),
		batches: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "reiestr_worker_batch_jobs",
			Help: "Jobs that a worker's transaction claimed, by outcome.", Buckets: []float64{1, 2, 5, 10, 20, 50, 100}},
			[]string{"outcome"}),
		pruned: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "reiestr_pruned_rows_total",
			Help: "Rows past their retention that this process removed, by kind."}, []string{"kind"}),
		ignored: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "reiestr_ignored_keys_total",
			Help: "Requests with a key that the operation does not know, by operation and key."},
			[]string{"operation", "key"}),
		ignoredKeys: &named{pairs: map[[2]string]bool{}},
	}
	r.MustRegister(m.requests, m.refusals, m.transactions, m.retries, m.jobs, m.batches, m.pruned, m.ignored,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m metrics) answered(a rest.Answered) {
	operation := a.Operation
	if operation == "" {
		operation = "none"
	}
	m.requests.WithLabelValues(operation, strconv.Itoa(a.Code)).Observe(a.Took.Seconds())
	if a.Refusal != "" {
		m.refusals.WithLabelValues(operation, string(a.Refusal)).Inc()
	}
	for _, key := range a.IgnoredKeys {
		m.ignored.WithLabelValues(operation, m.ignoredKeys.label(operation, key)).Inc()
	}
}

func (m metrics) transaction(name string, took time.Duration, tries int, err error) {
	m.transactions.WithLabelValues(name, outcome(err)).Observe(took.Seconds())
	m.retries.WithLabelValues(name).Add(float64(tries - 1))
}

func (m metrics) batch(runs []db.JobRun, err error) {
	m.batches.WithLabelValues(outcome(err)).Observe(float64(len(runs)))
	if err != nil {
		return
	}
	for _, run := range runs {
		status := db.Processed
		if run.Refusal != "" {
			status = db.Failed
		}
		m.jobs.WithLabelValues(string(run.Action), string(status), string(run.Refusal)).Inc()
	}
}

// outcome returns the label for the end of a transaction.
func outcome(err error) string {
	var refusal db.Refusal
	switch {
	case err == nil:
		return "committed"
	case errors.As(err, &refusal):
		return "refused"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case db.Unavailable(err):
		return "unavailable"
	}
	return "failed"
}

// Metrics returns the handler of GET /metrics. It reads the state of the pool at each scrape, but measures the queue at
// most once a second, because the handler needs no token and the measurement reads up to 100000 rows.
func (t *Telemetry) Metrics(d *db.DB) http.Handler {
	t.registry.MustRegister(database{d, recent.New(queueKept, queueTimeout, d.Jobs.Queue)})
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// database collects the metrics that are read at a scrape: those of the queue, the pool and the waiters.
type database struct {
	db    *db.DB
	queue *recent.Answer[db.Queue]
}

var (
	queueJobs = prometheus.NewDesc("reiestr_queue_jobs",
		"Pending jobs of the whole database, counted to 100000.", nil, nil)
	queueOldest = prometheus.NewDesc("reiestr_queue_oldest_seconds",
		"Age of the oldest pending job; 0 if there is none.", nil, nil)
	poolConns = prometheus.NewDesc("reiestr_pool_connections",
		"Connections of this process to the database, by state.", []string{"state"}, nil)
	poolMost = prometheus.NewDesc("reiestr_pool_connections_max",
		"Connections that this process may open.", nil, nil)
	poolWaits = prometheus.NewDesc("reiestr_pool_waits_total",
		"Times that a command had to wait for a connection.", nil, nil)
	poolWaited = prometheus.NewDesc("reiestr_pool_wait_seconds_total",
		"Time spent waiting for connections.", nil, nil)
	rowWaiters = prometheus.NewDesc("reiestr_lock_waiters",
		"Commands of this process that wait for locked rows.", nil, nil)
	rowMost = prometheus.NewDesc("reiestr_lock_waiters_max",
		"Commands of this process that may wait for locked rows.", nil, nil)
	crowded = prometheus.NewDesc("reiestr_commands_crowded_total",
		"Commands refused at once because too many were waiting for locked rows.", nil, nil)
)

func (database) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{queueJobs, queueOldest, poolConns, poolMost, poolWaits, poolWaited, rowWaiters,
		rowMost, crowded} {
		out <- d
	}
}

// Collect omits the metrics of the queue when the database does not answer: no value is better than a wrong one.
func (d database) Collect(out chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	pool := d.db.Pool()
	gauge(poolConns, float64(pool.AcquiredConns()), "used")
	gauge(poolConns, float64(pool.IdleConns()), "idle")
	gauge(poolMost, float64(pool.MaxConns()))
	out <- prometheus.MustNewConstMetric(poolWaits, prometheus.CounterValue, float64(pool.EmptyAcquireCount()))
	out <- prometheus.MustNewConstMetric(poolWaited, prometheus.CounterValue, pool.EmptyAcquireWaitTime().Seconds())
	waiting, most, refused := d.db.Waiters()
	gauge(rowWaiters, float64(waiting))
	gauge(rowMost, float64(most))
	out <- prometheus.MustNewConstMetric(crowded, prometheus.CounterValue, float64(refused))

	if queue, err := d.queue.Get(context.Background()); err == nil { // waits at most queueTimeout
		gauge(queueJobs, float64(queue.Pending))
		gauge(queueOldest, queue.Oldest.Seconds())
	}
}
