package db

import (
	"cmp"
	"context"
	"slices"

	"github.com/reiestr/reiestr/db/sqlc"
)

// DictionaryValueRow is a code of a dictionary. With a ParentCode it is one of the child values of that code.
type DictionaryValueRow = sqlc.AddDictionaryValuesParams

// DictionaryRow is a dictionary with all its values. No code stands in it twice, at whatever level.
type DictionaryRow struct {
	Name, Description string
	Labels            []string
	IsActive          bool
	Values            []DictionaryValueRow
}

// Dictionary is a dictionary as it is stored.
type Dictionary struct {
	DictionaryRow
	IsBig bool // the parameter BIG_DICTIONARIES names it
}

// Dictionaries are the closed lists of codes that rules and schemas refer to.
type Dictionaries struct{ db *statements }

// All reads all dictionaries, in order of name, and their values in order of code. The order is that of the bytes,
// whatever the collation of the database is. A registry may have some ten thousand values.
func (d *Dictionaries) All(ctx context.Context) ([]Dictionary, error) {
	return allDictionaries(ctx, d.db.read())
}

func allDictionaries(ctx context.Context, q *sqlc.Queries) ([]Dictionary, error) {
	rows, err := q.ListDictionaries(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]int{} // index in all
	all := []Dictionary{}
	for _, r := range rows {
		i, ok := known[r.Name]
		if !ok {
			i = len(all)
			known[r.Name] = i
			all = append(all, Dictionary{
				DictionaryRow{r.Name, r.Description, r.Labels, r.IsActive, []DictionaryValueRow{}}, r.IsBig,
			})
		}
		if r.Code != nil {
			all[i].Values = append(all[i].Values, DictionaryValueRow{
				Dictionary: r.Name, Code: *r.Code, Description: r.ValueDescription, IsActive: r.ValueIsActive,
				ParentCode: r.ParentCode,
			})
		}
	}
	slices.SortFunc(all, func(a, b Dictionary) int { return cmp.Compare(a.Name, b.Name) })
	for _, d := range all {
		slices.SortFunc(d.Values, func(a, b DictionaryValueRow) int { return cmp.Compare(a.Code, b.Code) })
	}
	return all, nil
}
