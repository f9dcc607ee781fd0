package main

import (
	"bytes"
	"context"
	_ "embed"
	"slices"
	"text/template"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api"
	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/bundle"
)

// demoBundle is the template of a fixture bundle. Each start fills in new ids, so that the rows of earlier starts stay
// and the printed calls work every time.
//
//go:embed demo.json
var demoBundle string

//go:embed demo_calls.txt
var demoCalls string

// demoTTL is how long the printed token is valid.
const demoTTL = 24 * time.Hour

type demo struct {
	LegalEntity, Requester, Division, Employee, RequesterEmployee, License, ServiceRequest uuid.UUID
	Hospital, HospitalEmployee                                                             uuid.UUID
	Program, Service, Patient, Encounter, User                                             uuid.UUID
	Token, APIKey, URL                                                                     string
	Requests                                                                               []demoRequest
}

// demoRequest is a service request that the printed calls do not change; the last call lists it.
type demoRequest struct {
	Number                     int
	ID                         uuid.UUID
	Status, Processing         string // Processing is empty without a programme
	Category, Note             string
	Holder, HolderEmployee     uuid.UUID // valid only if IsHeld
	IsHeld                     bool
	Steps                      []demoStep // of Processing, oldest first
	Created, Used, Ended, Ends string     // times in RFC 3339; Ends is the expiration date
}

type demoStep struct{ Processing, At string }

// demoStatuses and demoProcessing list all states, in the order in which a service request passes through them.
var (
	demoStatuses   = []string{"active", "completed", "recalled", "entered_in_error"}
	demoProcessing = []string{"", "new", "in_queue", "in_progress", "completed"}
	demoCategories = []struct{ code, note string }{
		{"counselling", "Консультація кардіолога"},
		{"laboratory_procedure", "Загальний аналіз крові"},
		{"diagnostic_procedure", "ЕКГ"},
		{"imaging", "Рентген грудної клітки"},
		{"procedure", "Фізіотерапія"},
		{"surgical_procedure", "Видалення катаракти"},
		{"hospitalization", "Планова госпіталізація"},
		{"transfer_of_care", "Переведення до стаціонару"},
		{"education", "Школа діабету"},
	}
)

// requests returns a service request in each state, and two expired ones. One of the two is free: the next expiry
// recalls it. The other is reserved: the expiry leaves it unchanged.
func (d *demo) requests(now time.Time) (all []demoRequest) {
	at := func(days int) string { return now.AddDate(0, 0, days).UTC().Format(time.RFC3339) }
	add := func(status, processing string, ends int) {
		category := demoCategories[len(all)%len(demoCategories)]
		r := demoRequest{
			Number: len(all) + 1, ID: uuid.New(), Status: status, Processing: processing,
			Category: category.code, Note: category.note, Created: at(-10), Used: at(-8), Ended: at(-1), Ends: at(ends),
			Holder: d.LegalEntity, HolderEmployee: d.Employee,
		}
		reached := slices.Index(demoProcessing, processing)
		for i, state := range demoProcessing[1 : reached+1] {
			r.Steps = append(r.Steps, demoStep{state, at(-10 + 2*i)})
		}
		r.IsHeld = reached > slices.Index(demoProcessing, "new")
		if len(all)%3 == 2 {
			r.Holder, r.HolderEmployee = d.Hospital, d.HospitalEmployee
		}
		all = append(all, r)
	}
	for _, status := range demoStatuses {
		for _, processing := range demoProcessing {
			add(status, processing, 30)
		}
	}
	add("active", "new", -1)
	add("active", "in_queue", -1)
	return all
}

// loadDemo loads the demo bundle, and issues the token and the api key of its calls.
func loadDemo(ctx context.Context, env *environment, database *database) (*demo, error) {
	d := &demo{}
	for _, id := range []*uuid.UUID{&d.LegalEntity, &d.Requester, &d.Division, &d.Employee, &d.RequesterEmployee,
		&d.License, &d.ServiceRequest, &d.Hospital, &d.HospitalEmployee, &d.Program, &d.Service, &d.Patient,
		&d.Encounter, &d.User} {
		*id = uuid.New()
	}
	d.Requests = d.requests(time.Now())
	rows, err := d.fill(demoBundle)
	if err != nil {
		return nil, err
	}
	err = database.asOwner(ctx, env, "reiestr demo", func(owner *db.DB) error {
		if _, err := bundle.Load(ctx, owner, "demo.json", bytes.NewReader(rows), bundle.Options{}); err != nil {
			return err
		}
		caller := db.Caller{UserID: d.User, ClientID: d.LegalEntity}
		if d.Token, _, err = owner.Access.IssueToken(ctx, caller, api.Scopes(), demoTTL); err != nil {
			return err
		}
		d.APIKey, err = owner.Access.IssueAPIKey(ctx, "demo")
		return err
	})
	return d, err
}

// calls returns shell commands that call the server at url, ready to paste.
func (d demo) calls(url string) (string, error) {
	d.URL = url
	text, err := d.fill(demoCalls)
	return string(text), err
}

func (d *demo) fill(text string) ([]byte, error) {
	t, err := template.New("demo").Parse(text)
	if err != nil {
		return nil, err
	}
	var filled bytes.Buffer
	err = t.Execute(&filled, d)
	return filled.Bytes(), err
}
