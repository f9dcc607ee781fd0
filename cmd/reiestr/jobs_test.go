package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestWaitAcrossProcesses: a request waits in one process for a job that another process carries out. A process that
// stops answers its waiting requests before it ends.
func TestWaitAcrossProcesses(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	front := serve(t, r.env(), "--role", "api")
	ids := r.reserved(3)
	job := r.release(front, ids[0])

	// There is no worker, so the request waits until the process is stopped.
	pending := make(chan string, 1)
	go func() {
		code, _, body := r.call(front, http.MethodGet, job, "Prefer", "wait=30")
		if code != http.StatusOK {
			t.Errorf("%d %s", code, body)
		}
		pending <- body
	}()
	eventually(t, "the request waits", func() bool {
		var listens bool
		must(t, r.conn.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
			AND query ILIKE 'LISTEN "reiestr_news"')`).Scan(&listens))
		return listens
	})
	start := time.Now()
	front.stop()
	if body := receive(t, pending); !strings.Contains(body, `"pending"`) || time.Since(start) > 20*time.Second {
		t.Errorf("after %s: %s", time.Since(start), body)
	}

	front = serve(t, r.env(), "--role", "api")
	back := serve(t, r.env(), "--role", "worker")
	for _, id := range ids[1:] {
		start := time.Now()
		code, header, body := r.call(front, http.MethodPatch, "/api/service_requests/"+id.String()+"/actions/release",
			"Prefer", "wait=30")
		if code != http.StatusOK || !strings.Contains(body, `"processed"`) || header.Get("Preference-Applied") != "wait=30" ||
			time.Since(start) > 20*time.Second {
			t.Errorf("%d after %s: %s", code, time.Since(start), body)
		}
	}
	if code, _, body := r.call(front, http.MethodGet, job, "Prefer", "wait=30"); code != http.StatusOK ||
		!strings.Contains(body, `"processed"`) {
		t.Errorf("%d %s", code, body)
	}
	back.stop()
	front.stop()
}

func TestJobsCommand(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	front := serve(t, r.env(), "--role", "api")
	ids := r.reserved(2)
	var jobs []string
	for _, id := range ids {
		jobs = append(jobs, strings.TrimPrefix(r.release(front, id), "/api/jobs/"))
	}
	jobsCommand := func(args ...string) (int, string, string) {
		return command(t, "", append(append([]string{"jobs"}, args...), "--database-url", r.url)...)
	}
	_, err := r.conn.Exec(t.Context(), `UPDATE ops.jobs
		SET status = 'failed', refusal = 'internal_error', attempts = 5, ended_at = now() WHERE id = $1`, jobs[0])
	must(t, err)

	var list []struct {
		ID, Status, Refusal string
		Attempts            int
	}
	_, out, _ := jobsCommand("list", "--json")
	must(t, json.Unmarshal([]byte(out), &list))
	if len(list) != 2 || list[0].ID != jobs[1] || list[0].Status != "pending" || list[1].ID != jobs[0] ||
		list[1].Refusal != "internal_error" || list[1].Attempts != 5 {
		t.Errorf("%s", out)
	}
	if _, out, _ := jobsCommand("list", "--status", "failed"); !strings.Contains(out, "  5         internal_error") ||
		!strings.Contains(out, jobs[0]) || strings.Contains(out, jobs[1]) {
		t.Error(out)
	}
	if _, out, _ := jobsCommand("list", "--limit", "1"); strings.Count(out, "\n") != 2 {
		t.Error(out)
	}
	for _, c := range []struct {
		args, out, stderr string
		code              int
	}{
		{"show " + jobs[0], "internal_error", "", 0},
		{"show " + jobs[0] + " --json", `"service_request_id":"` + ids[0].String() + `"`, "", 0},
		{"show " + uuid.NewString(), "", "reiestr: there is no job", 1},
		{"show x", "", "reiestr: <id>", 2},
		{"list --limit 0", "", "reiestr: --limit", 2},
		{"list --status dead", "", "reiestr: --status must be one of", 2},
		{"retry " + jobs[1], "", "reiestr: job " + jobs[1] + " is pending: only one that failed with internal_error can be " +
			"retried", 1},
		{"retry " + uuid.NewString(), "", "reiestr: there is no job", 1},
	} {
		code, out, stderr := jobsCommand(strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.HasPrefix(stderr, c.stderr) {
			t.Errorf("jobs %s: %d %s %s", c.args, code, out, stderr)
		}
	}
	code, retried, stderr := jobsCommand("retry", jobs[0])
	if id, err := uuid.Parse(strings.TrimSpace(retried)); code != 0 || err != nil || id.String() == jobs[0] {
		t.Errorf("retry: %d %s %s", code, retried, stderr)
	}
	back := serve(t, r.env(), "--role", "worker")
	r.processed(front, []string{"/api/jobs/" + strings.TrimSpace(retried), "/api/jobs/" + jobs[1]})
	back.stop()
	front.stop()
}
