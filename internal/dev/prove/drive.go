package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

const (
	window    = 24               // service requests that the clients want at a time
	perStep   = 30               // calls after which the window moves on by one
	callLimit = 50 * time.Second // longer than the service waits for a job
	jobLimit  = time.Minute      // in which a job ends
)

// driver sends the calls of all clients.
type driver struct {
	*registry
	history *history
	http    *http.Client
	faults  *faults      // nil: no harm is done
	made    atomic.Int64 // calls
	unknown atomic.Int64 // calls without an answer

	mu       sync.Mutex
	licences map[string]string // ids by object and type, of those that have been created
	failures []error           // what no model needs to judge
}

func (d *driver) fail(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failures = append(d.failures, fmt.Errorf(format, args...))
}

// drive has so many clients send calls until ctx ends. The calls of each client follow from the seed, but the moments
// do not.
func (d *driver) drive(ctx context.Context, clients int, seed uint64) {
	for n := range d.requests {
		d.history.add(record{Input: input{Object: requestObject(n), Kind: begin, State: string(initial(n).state())}})
	}
	for n := range d.licensed {
		d.history.add(record{Input: input{Object: licencesObject(n), Kind: begin, State: " "}})
	}
	for n := range d.victims {
		d.history.add(record{Input: input{Object: tokenObject(n), Kind: begin, State: "valid"}})
	}
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() {
			c := client{driver: d, number: i, dice: rand.New(rand.NewPCG(seed, uint64(i)))}
			for ctx.Err() == nil {
				c.act(ctx)
			}
		})
	}
	if d.faults != nil {
		running.Go(func() { d.injectAll(ctx, rand.New(rand.NewPCG(seed, uint64(clients)))) })
	}
	running.Go(func() { d.expireAll(ctx) })
	running.Go(func() { d.revokeAll(ctx) })
	running.Wait()
}

func requestObject(n int) string  { return fmt.Sprintf("request %d", n) }
func licencesObject(n int) string { return fmt.Sprintf("licences %d", n) }
func tokenObject(n int) string    { return fmt.Sprintf("token %d", n) }

// pause waits; false: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// expireAll recalls again and again. An expired service request may be passed over, because another call holds it.
func (d *driver) expireAll(ctx context.Context) {
	for pause(ctx, 3*time.Second) {
		call := d.history.now()
		err := d.command(context.WithoutCancel(ctx), "expire")
		if err != nil && d.faults == nil {
			d.fail("%w", err)
		}
		for n := range d.requests {
			if initial(n).Expired {
				d.history.add(
					record{Input: input{Object: requestObject(n), Kind: expire}, Output: output{Unknown: true},
						Caller: -1, Call: call, Return: d.history.now()},
				)
			}
		}
	}
}

// revokeAll revokes one token after the other.
//
// Decision 17: a revocation holds within a second. So the call ends a second after its answer.
func (d *driver) revokeAll(ctx context.Context) {
	for n := 0; n < len(d.victims) && pause(ctx, 700*time.Millisecond); n++ {
		call := d.history.now()
		err := d.owner.Access.RevokeToken(context.WithoutCancel(ctx), d.victims[n])
		for limit := time.Now().Add(jobLimit); err != nil && d.faults != nil && time.Now().Before(limit); {
			time.Sleep(100 * time.Millisecond)
			err = d.owner.Access.RevokeToken(context.WithoutCancel(ctx), d.victims[n])
		}
		if err != nil {
			d.fail("revocation: %w", err)
			continue
		}
		d.history.add(record{Input: input{Object: tokenObject(n), Kind: revoke}, Caller: -2, Call: call,
			Return: d.history.now() + time.Second.Nanoseconds()})
	}
}

// client is one of the driver's clients. Each call is one of a random legal entity and user.
type client struct {
	*driver
	number int
	dice   *rand.Rand
}

func (c *client) act(ctx context.Context) {
	made, unknown := int(c.made.Add(1)), int(c.unknown.Load())
	switch roll := c.dice.IntN(100); {
	case roll < 70:
		c.actOnRequest(ctx, (made/perStep+unknown+c.dice.IntN(window))%len(c.requests))
	case roll < 92:
		c.actOnLicences(ctx, (made/400+unknown/8+c.dice.IntN(3))%len(c.licensed))
	default:
		c.useVictim(ctx, c.dice.IntN(len(c.victims)))
	}
}

var actions = []kind{use, use, use, release, process, process, finish, finish, read, read}

func (c *client) actOnRequest(ctx context.Context, n int) {
	who := c.dice.IntN(clinics)
	in := input{Object: requestObject(n), Kind: actions[c.dice.IntN(len(actions))], Client: who + 1}
	id, token := c.requests[n], c.clinics[who].tokens[c.dice.IntN(users)]
	if in.Kind == read {
		call := c.history.now()
		a := c.send(ctx, asked{
			"GET", "/api/patients/" + id.String() + "/service_requests/" + id.String(), token, nil, nil,
		})
		c.record(in, a, call, "", c.shown(a))
		return
	}
	var body any
	if in.Kind == use {
		body = map[string]any{
			"used_by_legal_entity": map[string]any{"identifier": map[string]any{"value": c.clinics[who].id}},
		}
	}
	header := map[string]string{}
	if c.dice.IntN(3) > 0 {
		header["Prefer"] = "wait=30"
	}
	if c.dice.IntN(3) == 0 {
		header["Idempotency-Key"] = uuid.NewString()
	}
	r := asked{"PATCH", "/api/service_requests/" + id.String() + "/actions/" + string(in.Kind), token, header, body}
	call := c.history.now()
	a := c.send(ctx, r)
	job, a := c.outcome(ctx, a, token)
	c.record(in, a, call, job, output{Text: a.message()})
	if header["Idempotency-Key"] != "" && c.dice.IntN(2) == 0 {
		// Decision 11: the repetition hears what the first call heard. After an unknown answer it may be a call of its own.
		again := c.send(ctx, r)
		repeated, again := c.outcome(ctx, again, token)
		switch {
		case again.unknown() || again.message() == keyRunning:
		case a.unknown() || a.message() == keyRunning:
			c.record(in, again, call, repeated, output{Text: again.message()})
		case repeated != job || again.message() != a.message():
			c.fail(
				"%s of %s with a key: job %q, %q, and repeated: job %q, %q",
				in.Kind,
				in.Object,
				job,
				a.message(),
				repeated,
				again.message(),
			)
		}
	}
}

const keyRunning = "A request with this Idempotency-Key is being carried out"

// outcome follows the job of an accepted action to its end.
func (c *client) outcome(ctx context.Context, a answer, token string) (job string, end answer) {
	location := a.header.Get("Location")
	if location == "" {
		return "", a
	}
	for limit := time.Now().Add(jobLimit); a.unknown() || a.Data.Status == "pending"; {
		if time.Now().After(limit) || ctx.Err() != nil && time.Now().After(limit.Add(-jobLimit/2)) {
			return path.Base(location), answer{}
		}
		if a.unknown() {
			time.Sleep(100 * time.Millisecond)
		}
		a = c.send(ctx, asked{"GET", location, token, map[string]string{"Prefer": "wait=5"}, nil})
	}
	return path.Base(location), a
}

func (c *client) actOnLicences(ctx context.Context, n int) {
	in := input{
		Object: licencesObject(n),
		Client: n + 1,
		Type:   1 + c.dice.IntN(licenceTypes),
		Value:  1 + c.dice.IntN(1_000_000),
	}
	token := c.licensed[n].tokens[c.dice.IntN(users)]
	key := fmt.Sprint(in.Object, " ", in.Type)
	c.mu.Lock()
	id := c.driver.licences[key]
	c.mu.Unlock()
	body := map[string]any{"type": licenceType(in.Type), "is_primary": false, "order_no": fmt.Sprint(in.Value)}
	call := c.history.now()
	switch roll := c.dice.IntN(4); {
	case roll == 0:
		in.Kind, in.Type, in.Value = read, 0, 0
		a := c.send(ctx, asked{"GET", "/api/licenses?page_size=300", token, nil, nil})
		c.record(in, a, call, "", c.listed(a))
	case roll == 1 && id != "":
		in.Kind = update
		a := c.send(ctx, asked{"PATCH", "/api/licenses/" + id, token, nil, body})
		c.record(in, a, call, "", output{Text: a.message()})
	default:
		in.Kind = create
		body["issued_by"], body["issued_date"], body["active_from_date"] = "MOZ", "2020-01-01", "2020-01-01"
		r := asked{"POST", "/api/licenses", token, nil, body}
		if c.dice.IntN(2) == 0 {
			r.header = map[string]string{"Idempotency-Key": uuid.NewString()}
		}
		a := c.send(ctx, r)
		c.record(in, a, call, "", output{Text: a.message()})
		if a.code == http.StatusCreated {
			c.mu.Lock()
			c.driver.licences[key] = a.Data.ID
			c.mu.Unlock()
		}
		if r.header != nil {
			again := c.send(ctx, r)
			known := !a.unknown() && a.message() != keyRunning && !again.unknown()
			if known && (again.code != a.code || again.Data.ID != a.Data.ID) &&
				again.message() != keyRunning {
				c.fail("creation with a key: %d %s, and repeated: %d %s", a.code, a.raw, again.code, again.raw)
			}
			if a.unknown() || a.message() == keyRunning {
				c.record(in, again, call, "", output{Text: again.message()})
			}
		}
	}
}

func (c *client) useVictim(ctx context.Context, n int) {
	call := c.history.now()
	a := c.send(ctx, asked{"GET", "/api/licenses", c.victims[n], nil, nil})
	c.record(input{Object: tokenObject(n), Kind: enter}, a, call, "", output{Text: a.message()})
}

// record adds the call. A refusal for want of resources (429) has no effect, and says nothing about the state. A call
// with a new key whose answer is that the key is in use was sent twice by the HTTP client, after its connection had
// broken: it may have been carried out.
func (c *client) record(in input, a answer, call int64, job string, out output) {
	switch {
	case a.code == http.StatusTooManyRequests:
		return
	case a.unknown() || a.message() == keyRunning:
		if in.Kind == read || in.Kind == enter {
			return // it has no effect
		}
		out = output{Unknown: true}
	case a.code >= 500:
		c.fail("%s of %s: %d %s", in.Kind, in.Object, a.code, a.raw)
	}
	c.history.add(record{Input: in, Output: out, Caller: c.number, Job: job, Call: call, Return: c.history.now()})
}

// afterUnknown is the pause of a client after a call without an answer. Each such call may have been carried out or
// not, and the checker has to try both. Too many of them at one object would take it too long, so the clients also go
// on to other objects then.
const afterUnknown = time.Second

// asked is a request to one of the API processes.
type asked struct {
	method, path, token string
	header              map[string]string
	body                any
}

// answer is that of a request, or the end of a job. The zero value: nothing is known.
type answer struct {
	code   int
	header http.Header
	raw    string

	Data struct {
		Status string
		ID     string
		Error  *struct{ Message string }

		Processing string `json:"program_processing_status"`
		UsedBy     *struct {
			Identifier struct{ Value string }
		} `json:"used_by_legal_entity"`
	}
	Error *struct{ Message string }
}

// unknown: the call may have been carried out, or not. Contract 2, "After a 503, or without an answer".
func (a answer) unknown() bool { return a.code == 0 || a.code == http.StatusServiceUnavailable }

// message of a refusal, by the request or by the job; "": there is none.
func (a answer) message() string {
	switch {
	case a.Error != nil:
		return a.Error.Message
	case a.Data.Error != nil:
		return a.Data.Error.Message
	}
	return ""
}

// send sends a request to one of the API processes. A call that has begun goes on when the run ends.
func (c *client) send(running context.Context, r asked) (a answer) {
	defer func() {
		if a.unknown() {
			c.unknown.Add(1)
			pause(running, afterUnknown)
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(running), callLimit)
	defer cancel()
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			panic(err)
		}
		body = bytes.NewReader(text)
	}
	address := "http://" + c.addresses[c.dice.IntN(len(c.addresses))] + r.path
	request, err := http.NewRequestWithContext(ctx, r.method, address, body)
	if err != nil {
		panic(err)
	}
	request.Header.Set("Authorization", "Bearer "+r.token)
	request.Header.Set("api-key", c.key)
	request.Header.Set("Content-Type", "application/json")
	for name, value := range r.header {
		request.Header.Set(name, value)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return answer{}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}
	}
	a = answer{code: response.StatusCode, header: response.Header, raw: string(text)}
	if strings.Contains(a.raw, `"type":"list"`) {
		return a
	}
	if err := json.Unmarshal(text, &a); err != nil {
		c.fail("%s %s: %d, the answer is no envelope: %s", r.method, r.path, a.code, text)
	}
	return a
}

// shown is what a service request shows of its state.
func (c *client) shown(a answer) output {
	if a.message() != "" {
		return output{Text: a.message()}
	}
	holder := 0
	if a.Data.UsedBy != nil {
		for i, clinic := range c.clinics {
			if clinic.id.String() == a.Data.UsedBy.Identifier.Value {
				holder = i + 1
			}
		}
	}
	return output{Text: fmt.Sprintf("%s %s %d", a.Data.Status, a.Data.Processing, holder)}
}

// listed is what a list of licences shows: additional ones, and their values.
func (c *client) listed(a answer) output {
	if a.message() != "" {
		return output{Text: a.message()}
	}
	var list struct {
		Data []struct {
			Type      string
			IsPrimary bool   `json:"is_primary"`
			OrderNo   string `json:"order_no"`
		}
	}
	if !a.unknown() {
		if err := json.Unmarshal([]byte(a.raw), &list); err != nil {
			c.fail("licences: %d %s", a.code, a.raw)
		}
	}
	shown := state(" ")
	for _, l := range list.Data {
		var kind, value int
		if _, err := fmt.Sscanf(l.Type, licenceType(0)[:len("TYPE_")]+"%d", &kind); err != nil || l.IsPrimary {
			continue
		}
		fmt.Sscan(l.OrderNo, &value) //nolint:errcheck // 0 is a value that no call wrote
		shown = insert(shown, kind, value)
	}
	return output{Text: string(shown)}
}
