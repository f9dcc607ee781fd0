package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/reiestr/reiestr/db"
)

// Meta is in every answer, of success and of failure (contract, section 2).
type Meta struct {
	Code      int    `json:"code" doc:"The HTTP status code once more" example:"200"`
	URL       string `json:"url" doc:"The URL that was asked" example:"http://127.0.0.1:8080/api/licenses"`
	Type      string `json:"type" enum:"object,list" doc:"Kind of data" example:"object"`
	RequestID string `json:"request_id" doc:"X-Request-Id of the request, or one made for it; also in the answer's header" example:"d3b07384-d9a0-4c9b-8f6d-2f1f6b1a7f11"`
}

// Envelope is a successful answer.
type Envelope[T any] struct {
	Meta Meta `json:"meta"`
	Data T    `json:"data"`
}

// Paging is the place of the answered page in the list.
type Paging struct {
	PageNumber   int64 `json:"page_number" minimum:"1" doc:"The page that was asked for" example:"1"`
	PageSize     int64 `json:"page_size" minimum:"1" doc:"Entries of a full page" example:"50"`
	TotalEntries int64 `json:"total_entries" minimum:"0" doc:"Entries on all pages" example:"1"`
	TotalPages   int64 `json:"total_pages" minimum:"1" doc:"An empty list has one page" example:"1"`
}

// ListEnvelope is a successful answer that is a page of a list.
type ListEnvelope[T any] struct {
	Meta   Meta   `json:"meta"`
	Paging Paging `json:"paging"`
	Data   []T    `json:"data" nullable:"false"`
}

// WholeListEnvelope is a successful answer that is a list without pages.
type WholeListEnvelope[T any] struct {
	Meta Meta `json:"meta"`
	Data []T  `json:"data" nullable:"false"`
}

// wholeList is a WholeListEnvelope as JSON, with data that are JSON already.
func wholeList(ctx context.Context, data []byte) ([]byte, error) {
	meta, err := JSON(ListMeta(ctx))
	return slices.Concat([]byte(`{"meta":`), meta, []byte(`,"data":`), data, []byte("}\n")), err
}

// JSON writes a value as it stands in answers.
func JSON(value any) ([]byte, error) {
	var text bytes.Buffer
	err := jsonFormat.Marshal(&text, value)
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}

// Object makes the answer that is one object.
func Object[T any](ctx context.Context, code int, data T) Envelope[T] {
	return Envelope[T]{metaOf(ctx, code), data}
}

// List makes the answer that is a page of a list. The function answer makes each entry.
func List[E, T any](ctx context.Context, list db.List[E], answer func(E) (T, error)) (ListEnvelope[T], error) {
	envelope := ListEnvelope[T]{Meta: ListMeta(ctx), Paging: pagingOf(list.Page, list.TotalEntries), Data: []T{}}
	for _, e := range list.Entries {
		a, err := answer(e)
		if err != nil {
			return envelope, err
		}
		envelope.Data = append(envelope.Data, a)
	}
	return envelope, nil
}

// ListMeta is the meta of a list that is answered with 200.
func ListMeta(ctx context.Context) Meta {
	m := metaOf(ctx, http.StatusOK)
	m.Type = "list"
	return m
}

func pagingOf(p db.Page, totalEntries int64) Paging {
	pages := max(1, (totalEntries+p.Size-1)/p.Size)
	return Paging{PageNumber: p.Number, PageSize: p.Size, TotalEntries: totalEntries, TotalPages: pages}
}

// Failure is any other answer. It is the only error type that reaches a caller.
type Failure struct {
	Meta  Meta  `json:"meta"`
	Fault Fault `json:"error"`

	header http.Header
}

// Fault describes an error.
type Fault struct {
	Type    string    `json:"type" enum:"access_denied,forbidden,not_found,request_malformed,method_not_allowed,content_type_invalid,request_too_large,request_conflict,validation_failed,too_many_requests,service_unavailable,internal_error" doc:"Kind of the fault"`
	Message string    `json:"message" doc:"Text of the rule that refused"`
	Invalid []Invalid `json:"invalid,omitempty" doc:"With validation_failed: every fault, by place"`
}

// Invalid is one place of the request with the rules that it breaks.
type Invalid struct {
	Entry     string `json:"entry" doc:"Place of the fault" example:"$.issued_date"`
	EntryType string `json:"entry_type" enum:"json_data_property,query_parameter,path_parameter" doc:"Kind of the place"`
	Rules     []Rule `json:"rules" doc:"The rules that are broken there"`
}

// Rule is a rule that is broken.
type Rule struct {
	Rule        string `json:"rule" enum:"required,schema,inclusion,cast,date,length,format,range,invalid" doc:"Kind of the rule"`
	Params      any    `json:"params" doc:"Values or limits that the rule demands: a list, or an object of named limits"`
	Description string `json:"description" doc:"Text for people"`
}

// Error, GetStatus, GetHeaders and ContentType are the methods by which huma writes a Failure as an error, as plain
// JSON.
func (f *Failure) Error() string                { return f.Fault.Message }
func (f *Failure) GetStatus() int               { return f.Meta.Code }
func (f *Failure) GetHeaders() http.Header      { return f.header }
func (f *Failure) ContentType(ct string) string { return ct }

// Fail makes the answer of a fault. header holds name-value pairs.
func Fail(ctx context.Context, code int, fault Fault, header ...string) *Failure {
	f := &Failure{Meta: metaOf(ctx, code), Fault: fault, header: http.Header{}}
	for i := 0; i+1 < len(header); i += 2 {
		f.header.Set(header[i], header[i+1])
	}
	return f
}

// write sends the failure where huma does not: outside of its operations, and before them.
func (f *Failure) write(w http.ResponseWriter) {
	for name, values := range f.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.Meta.Code)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.Encode(f) //nolint:errcheck // the caller has gone
}

func metaOf(ctx context.Context, code int) Meta {
	r := requestOf(ctx)
	return Meta{Code: code, URL: r.url, Type: "object", RequestID: r.id}
}
