package api

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/recent"
)

// Dictionary is a closed list of codes (contract, section 7).
type Dictionary struct {
	Name        string            `json:"name"`
	Description string            `json:"description"`
	IsActive    bool              `json:"is_active" doc:"False: no value of it is allowed any more"`
	Labels      []string          `json:"labels" nullable:"false" doc:"SYSTEM, EXTERNAL, ADMIN, READ_ONLY, TRANSLATIONS"`
	Values      []DictionaryValue `json:"values" nullable:"false" doc:"In order of code"`
}

// DictionaryValue is a code of a dictionary.
type DictionaryValue struct {
	Code        string            `json:"code" doc:"Stands once in the dictionary, whatever its level"`
	Description string            `json:"description"`
	IsActive    bool              `json:"is_active" doc:"False: the code is not allowed in new data"`
	ChildValues []DictionaryValue `json:"child_values" nullable:"false" doc:"Values below this one, in order of code"`
}

// FlatDictionary is a dictionary as the deprecated method answers it.
type FlatDictionary struct {
	Name     string            `json:"name"`
	IsActive bool              `json:"is_active"`
	Labels   []string          `json:"labels" nullable:"false"`
	Values   map[string]string `json:"values" nullable:"false" doc:"Descriptions by code, of all levels; inactive values too"`
}

type listDictionariesInput struct {
	Name             string            `query:"name" doc:"Exactly this name, or one of several with commas between"`
	IsActive         rest.OptionalBool `query:"is_active" doc:"Of the dictionary"`
	ValueCode        string            `query:"value_code" doc:"Only values with exactly this code"`
	ValueDescription string            `query:"value_description" doc:"Only values whose description contains this text, in whatever case"`
	ValueIsActive    rest.OptionalBool `query:"value_is_active" doc:"Only active or only inactive values"`
}

type listFlatDictionariesInput struct {
	Name     string            `query:"name" doc:"Exactly this name, or one of several with commas between"`
	IsActive rest.OptionalBool `query:"is_active"`
}

// dictionaryFilter selects dictionaries and values, and their shape. Two equal filters have the same answer.
type dictionaryFilter struct {
	isFlat                            bool
	name, valueCode, valueDescription string // "": all
	isActive, valueIsActive           rest.OptionalBool
}

const (
	// dictionariesKept is how long the dictionaries of one reading are answered. Changes are answered after this time and
	// that of a reading, which together are less than the second that the contract allows.
	dictionariesKept = 500 * time.Millisecond
	longestReading   = 10 * time.Second // of all dictionaries
	mostRendered     = 32 << 20         // bytes of answers that are kept with the dictionaries of one reading
)

// dictionaries are the operations on dictionaries. Their callers need not be known, so all share what is dear: the
// dictionaries are read twice a second at most, equal questions share an answer, and one answer is rendered at a time.
type dictionaries struct {
	*rest.Server
	latest    *recent.Answer[*dictionaryReading]
	rendering chan struct{} // has one place, for the request that renders
}

// dictionaryReading is what one reading has found, and the answers made of it.
type dictionaryReading struct {
	all []db.Dictionary

	mu       sync.Mutex
	rendered map[dictionaryFilter]renderedList
	size     int // of rendered, in bytes
}

// renderedList is a list as JSON, and its tag.
type renderedList struct {
	data []byte
	tag  string
}

func newDictionaries(s *rest.Server) dictionaries {
	read := func(ctx context.Context) (*dictionaryReading, error) {
		all, err := s.DB.Dictionaries.All(ctx)
		return &dictionaryReading{all: all, rendered: map[dictionaryFilter]renderedList{}}, err
	}
	return dictionaries{s, recent.New(dictionariesKept, longestReading, read), make(chan struct{}, 1)}
}

func (d dictionaries) register() {
	const about = "All filters that are given have to fit. The filters of values narrow the values of every level; a " +
		"value above a value that fits stays, and a dictionary without values that fit is left out. Dictionaries that the " +
		"parameter BIG_DICTIONARIES names are answered only if they are asked for by name. An unknown name is no fault: " +
		"the list is empty. The order is that of names and codes. "
	invalid := rest.Invalid{
		Entry: "$.is_active", EntryType: "query_parameter", Rules: []rest.Rule{rest.CastRule("boolean", "string")},
	}
	open := rest.Endpoint[listDictionariesInput, rest.TaggedOutput]{
		Operation: huma.Operation{
			OperationID: "listDictionaries",
			Method:      http.MethodGet,
			Path:        "/api/v2/dictionaries",
			Tags:        []string{"Dictionaries"},
			Summary:     "List dictionaries",
			Description: about + "Needs neither a token nor an api key.",
		},
		Access:   rest.Open,
		Tagged:   reflect.TypeFor[rest.WholeListEnvelope[Dictionary]](),
		Do:       d.list,
		Examples: rest.Examples{Answer: exampleDictionaries(), IsWhole: true, Invalid: invalid},
	}
	rest.Register(d.Server, open)
	ofMIS := open
	ofMIS.OperationID, ofMIS.Path = "listMISDictionaries", "/api/v2/mis/dictionaries"
	ofMIS.Summary = "List dictionaries, for information systems"
	ofMIS.Description = about + "The same as GET /api/v2/dictionaries, with a token."
	ofMIS.Access, ofMIS.Scope = rest.ByToken, "address:read"
	rest.Register(d.Server, ofMIS)
	rest.Register(d.Server, rest.Endpoint[listFlatDictionariesInput, rest.TaggedOutput]{
		Operation: huma.Operation{
			OperationID: "listFlatDictionaries",
			Method:      http.MethodGet,
			Path:        "/api/dictionaries",
			Deprecated:  true,
			Tags:        []string{"Dictionaries"},
			Summary:     "List dictionaries, in the old shape",
			Description: "values is an object of descriptions by code, and has the values of all levels. Needs an api " +
				"key and no token. Big dictionaries are answered only if they are asked for by name.",
		},
		Access:   rest.ByKey,
		Tagged:   reflect.TypeFor[rest.WholeListEnvelope[FlatDictionary]](),
		Do:       d.listFlat,
		Examples: rest.Examples{Answer: exampleFlatDictionaries(), IsWhole: true, Invalid: invalid},
	})
}

func (d dictionaries) list(ctx context.Context, _ db.Caller, in *listDictionariesInput) (*rest.TaggedOutput, error) {
	return d.answer(ctx, dictionaryFilter{
		name: in.Name, isActive: in.IsActive,
		valueCode: in.ValueCode, valueDescription: strings.ToLower(in.ValueDescription), valueIsActive: in.ValueIsActive,
	})
}

func (d dictionaries) listFlat(
	ctx context.Context, _ db.Caller, in *listFlatDictionariesInput,
) (*rest.TaggedOutput, error) {
	return d.answer(ctx, dictionaryFilter{isFlat: true, name: in.Name, isActive: in.IsActive})
}

func (d dictionaries) answer(ctx context.Context, f dictionaryFilter) (*rest.TaggedOutput, error) {
	reading, err := d.latest.Get(ctx)
	if err != nil {
		return nil, err
	}
	list, known := reading.known(f)
	if !known {
		select {
		case d.rendering <- struct{}{}:
			defer func() { <-d.rendering }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if list, err = reading.render(f); err != nil {
			return nil, err
		}
	}
	return rest.Tagged(ctx, list.data, list.tag)
}

func (r *dictionaryReading) known(f dictionaryFilter) (list renderedList, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list, known = r.rendered[f]
	return list, known
}

// render makes the list of a filter, unless another request has made it meanwhile.
func (r *dictionaryReading) render(f dictionaryFilter) (renderedList, error) {
	if list, known := r.known(f); known {
		return list, nil
	}
	data, err := rest.JSON(f.of(r.all))
	if err != nil {
		return renderedList{}, err
	}
	list := renderedList{data, rest.TagOf(data)}
	r.mu.Lock()
	defer r.mu.Unlock()
	const entry = 200 // the map's own bytes
	size := entry + len(f.name) + len(f.valueCode) + len(f.valueDescription) + len(data)
	if r.size+size <= mostRendered {
		r.size += size
		r.rendered[f] = list
	}
	return list, nil
}

// of is the answer of the filter: a list of Dictionary or FlatDictionary.
func (f dictionaryFilter) of(all []db.Dictionary) any {
	whole, flat := []Dictionary{}, []FlatDictionary{}
	names := strings.Split(f.name, ",")
	for _, d := range all {
		if f.name == "" && d.IsBig || f.name != "" && !slices.Contains(names, d.Name) || !fits(f.isActive, d.IsActive) {
			continue
		}
		if f.isFlat {
			flat = append(flat, flatDictionary(d))
		} else if found := f.dictionary(d); len(found.Values) > 0 || !f.narrows() {
			whole = append(whole, found)
		}
	}
	if f.isFlat {
		return flat
	}
	return whole
}

func flatDictionary(d db.Dictionary) FlatDictionary {
	values := make(map[string]string, len(d.Values))
	for _, v := range d.Values {
		values[v.Code] = v.Description
	}
	return FlatDictionary{d.Name, d.IsActive, d.Labels, values}
}

// narrows reports whether the filter selects values.
func (f dictionaryFilter) narrows() bool {
	return f.valueCode != "" || f.valueDescription != "" || f.valueIsActive.Pointer() != nil
}

// dictionary is a dictionary with the values that the filter selects.
func (f dictionaryFilter) dictionary(d db.Dictionary) Dictionary {
	below := map[string][]db.DictionaryValueRow{} // by code; those at the top by ""
	for _, v := range d.Values {
		parent := ""
		if v.ParentCode != nil {
			parent = *v.ParentCode
		}
		below[parent] = append(below[parent], v)
	}
	return Dictionary{d.Name, d.Description, d.IsActive, d.Labels, f.values(below, "")}
}

// values are the values below a code that fit, or that have such values below them.
func (f dictionaryFilter) values(below map[string][]db.DictionaryValueRow, parent string) []DictionaryValue {
	kept := make([]DictionaryValue, 0, len(below[parent]))
	for _, v := range below[parent] {
		children := f.values(below, v.Code)
		if len(children) > 0 || f.fits(v) {
			kept = append(kept, DictionaryValue{v.Code, v.Description, v.IsActive, children})
		}
	}
	return kept
}

func (f dictionaryFilter) fits(v db.DictionaryValueRow) bool {
	return (f.valueCode == "" || v.Code == f.valueCode) &&
		strings.Contains(strings.ToLower(v.Description), f.valueDescription) &&
		fits(f.valueIsActive, v.IsActive)
}

// fits reports whether a flag is as asked for; every flag fits if nothing was asked for.
func fits(asked rest.OptionalBool, is bool) bool {
	wanted := asked.Pointer()
	return wanted == nil || *wanted == is
}

func exampleDictionaries() []Dictionary {
	return []Dictionary{{
		Name: "LICENSE_TYPE", Description: "Типи ліцензій", IsActive: true, Labels: []string{"SYSTEM", "EXTERNAL"},
		Values: []DictionaryValue{
			{"MSP", "Заклад з надання медичних послуг", true, []DictionaryValue{}},
			{"PHARMACY", "Аптека", true, []DictionaryValue{}},
		},
	}}
}

func exampleFlatDictionaries() []FlatDictionary {
	return []FlatDictionary{{
		Name: "LICENSE_TYPE", IsActive: true, Labels: []string{"SYSTEM", "EXTERNAL"},
		Values: map[string]string{"MSP": "Заклад з надання медичних послуг", "PHARMACY": "Аптека"},
	}}
}
