// Package api serves the resources over HTTP: dictionaries, licences, service requests, jobs and events, each in a file
// of its own, and the answer that each refusal of the database gets. What all resources share is in package rest. The
// package knows the types of package db and no SQL.
package api

import (
	"net/http"
	"slices"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/reiestr/reiestr/api/rest"
)

// contractVersion is the version of the API, not of the program. It changes when clients have to know.
const contractVersion = "1.0.0"

var about = rest.About{
	Info: &huma.Info{
		Title:   "Reiestr",
		Version: contractVersion,
		Description: "Additional licences of legal entities and the reservation cycle of service requests, " +
			"decided in SQL under row locks. An open implementation of a part of the central database of " +
			"Ukraine's eHealth system (ЕСОЗ).",
		License: &huma.License{Name: "Apache-2.0", URL: "https://www.apache.org/licenses/LICENSE-2.0"},
	},
	Tags: []*huma.Tag{
		{Name: "Dictionaries", Description: "Closed lists of codes that the rules refer to; whole lists, without pages."},
		{Name: "Licences", Description: "Licences of the caller's legal entity; synchronous."},
		{Name: "Service requests", Description: "Electronic referrals; actions are asynchronous: 202 and a job."},
		{Name: "Jobs", Description: "How asynchronous actions end."},
		{Name: "Events", Description: "Changes of service requests and licences, to follow without missing one."},
	},
}

// New makes the handler of the API and of the paths for operators.
func New(c rest.Config) http.Handler {
	return newServer(c).Handler(rendered())
}

// Document is the OpenAPI document as YAML, in version 3.1 or 3.0. It needs no database.
func Document(version string) ([]byte, error) {
	return rest.RenderYAML(newServer(rest.Config{}).OpenAPI(), version)
}

// Scopes are all scopes that endpoints ask for, in alphabetical order.
func Scopes() []string {
	var scopes []string
	for _, path := range newServer(rest.Config{}).OpenAPI().Paths {
		for _, op := range []*huma.Operation{path.Get, path.Post, path.Put, path.Patch, path.Delete} {
			if op != nil && rest.ScopeOf(op) != "" {
				scopes = append(scopes, rest.ScopeOf(op))
			}
		}
	}
	slices.Sort(scopes)
	return slices.Compact(scopes)
}

// newServer makes a server with the endpoints of all resources.
func newServer(c rest.Config) *rest.Server {
	s := rest.New(c, about, refused)
	newDictionaries(s).register()
	licenses{s}.register()
	serviceRequests{s}.register()
	actions{jobs{s}}.register()
	jobs{s}.register()
	events{s}.register()
	return s
}

// rendered is the document of every server. It is written once, because that takes longer than the rest of a start.
var rendered = sync.OnceValue(func() rest.Document {
	d, err := rest.Render(newServer(rest.Config{}).OpenAPI())
	if err != nil {
		panic("the OpenAPI document cannot be written: " + err.Error()) // it is the same at every start
	}
	return d
})
