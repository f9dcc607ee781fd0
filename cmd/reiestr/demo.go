package main

import (
	"bytes"
	"context"
	_ "embed"
	"strings"
	"text/template"
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/bundle"
)

// demoBundle is a fixture bundle whose ids are filled in, new ones at each start: what earlier starts left stays, and the calls that are
// printed work every time.
//
//go:embed demo.json
var demoBundle string

//go:embed demo_calls.txt
var demoCalls string

// demoTTL is how long the printed token is valid.
const demoTTL = 24 * time.Hour

type demo struct {
	LegalEntity, Requester, Division, Employee, RequesterEmployee, License, ServiceRequest uuid.UUID
	Program, Service, Patient, Encounter, User                                             uuid.UUID
	Token, APIKey, URL                                                                     string
}

// loadDemo loads the demo bundle and issues what its calls need.
func loadDemo(ctx context.Context, env *environment, database *database) (*demo, error) {
	d := &demo{}
	for _, id := range []*uuid.UUID{&d.LegalEntity, &d.Requester, &d.Division, &d.Employee, &d.RequesterEmployee, &d.License, &d.ServiceRequest,
		&d.Program, &d.Service, &d.Patient, &d.Encounter, &d.User} {
		*id = uuid.New()
	}
	rows, err := d.fill(demoBundle)
	if err != nil {
		return nil, err
	}
	err = database.asOwner(ctx, env, "reiestr demo", func(owner *db.DB) error {
		if _, err := bundle.Load(ctx, owner, "demo.json", bytes.NewReader(rows), bundle.Options{}); err != nil {
			return err
		}
		scopes := strings.Fields("license:read license:write service_request:read service_request:use job:read event:read")
		if d.Token, _, err = owner.Access.IssueToken(ctx, db.Caller{UserID: d.User, ClientID: d.LegalEntity}, scopes, demoTTL); err != nil {
			return err
		}
		d.APIKey, err = owner.Access.IssueAPIKey(ctx, "demo")
		return err
	})
	return d, err
}

// calls are shell commands against the server at url, ready to paste.
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
