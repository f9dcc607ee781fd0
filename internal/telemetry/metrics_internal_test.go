package telemetry

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/worker"
)

// TestLargestBatchHasABucket: the last bucket of reiestr_worker_batch_jobs counts the largest batch of a worker. Behind
// the last bucket all sizes look alike, so the metric could not show that the workers are too slow.
func TestLargestBatchHasABucket(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	newMetrics(registry).batch(make([]db.JobRun, worker.BatchSize), nil)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, family := range families {
		if family.GetName() != "reiestr_worker_batch_jobs" {
			continue
		}
		found = true
		buckets := family.GetMetric()[0].GetHistogram().GetBucket()
		last := buckets[len(buckets)-1]
		if last.GetUpperBound() < worker.BatchSize || last.GetCumulativeCount() != 1 {
			t.Errorf("the last bucket ends at %v and counts %d batches of %d jobs", last.GetUpperBound(),
				last.GetCumulativeCount(), worker.BatchSize)
		}
	}
	if !found {
		t.Error("the metric is missing")
	}
}

func TestPagesNameTheLargestBatch(t *testing.T) {
	t.Parallel()
	want := fmt.Sprintf("near %d, the most jobs of a batch", worker.BatchSize)
	for _, page := range []string{"metrics.md", "playbooks/queue-grows.md"} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("docs/%s does not say %q", page, want)
		}
	}
}

// TestIgnoredKeysAreBounded: clients choose the keys, and must not be able to fill the memory with time series.
func TestIgnoredKeysAreBounded(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	m := newMetrics(r)
	for i := range 3 * mostIgnoredKeys {
		m.answered(rest.Answered{Operation: "createLicense", IgnoredKeys: []string{fmt.Sprint("key_", i), "key_0"}})
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, family := range families {
		if family.GetName() == "reiestr_ignored_keys_total" {
			for _, series := range family.GetMetric() {
				counted[series.GetLabel()[0].GetValue()] = series.GetCounter().GetValue()
			}
		}
	}
	if len(counted) != mostIgnoredKeys+1 || counted["key_0"] != 3*mostIgnoredKeys+1 || counted["key_1"] != 1 ||
		counted[rest.OtherKey] != 2*mostIgnoredKeys {
		t.Errorf("%d series, %v, %v, %v", len(counted), counted["key_0"], counted["key_1"], counted[rest.OtherKey])
	}
}
