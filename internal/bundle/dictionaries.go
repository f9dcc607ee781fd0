package bundle

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/reiestr/reiestr/db"
)

// DictionaryChange is what an import changes of one dictionary, or has found unchanged. The lists are codes.
type DictionaryChange struct {
	Name      string
	IsNew     bool // the dictionary was not there
	IsActive  bool // as imported
	Switched  bool // is_active was another
	Described bool // description or labels were others

	Added, Removed         []string
	Activated, Deactivated []string
	Redescribed            []string // their description was another
	Moved                  []string // they stood below another value
}

// Nothing reports whether the dictionary is in the database as it is in the file.
func (c DictionaryChange) Nothing() bool {
	return !c.IsNew && !c.Switched && !c.Described && len(c.Added)+len(c.Removed)+len(c.Activated)+len(c.Deactivated)+
		len(c.Redescribed)+len(c.Moved) == 0
}

// Import is the outcome of an import of dictionaries.
type Import struct {
	Dictionaries []DictionaryChange // of the file, in its order
	Others       int                // dictionaries of the database that are not in the file, and stay as they are
}

// ImportDictionaries imports the answer of GET /api/v2/dictionaries, or its list alone, from the file at path; "-" is
// standard input. Each dictionary of the file replaces the one of its name with all its values, in one transaction. A
// dictionary that is not in the file stays. Fields that are unknown here are passed over. A fault has its line and
// column, and then nothing is imported. d must be open as the owner.
func ImportDictionaries(ctx context.Context, d *db.DB, path string, dryRun bool) (done Import, err error) {
	err = withFile(path, func(name string, file io.ReadSeeker) (err error) {
		b := &bundle{}
		if done, err = b.importDictionaries(ctx, d, file, dryRun); err != nil {
			return b.explain(name, err)
		}
		return nil
	})
	return done, err
}

func (b *bundle) importDictionaries(
	ctx context.Context, d *db.DB, file io.ReadSeeker, dryRun bool,
) (done Import, err error) {
	if b.source, err = openJSONList(file); err != nil {
		return done, err
	}
	list, err := b.list()
	if err != nil {
		return done, err
	}
	rows, at, err := b.readDictionaries(ctx, list)
	if err != nil {
		return done, err
	}
	err = d.Bundles.Load(ctx, dryRun, func(l *db.Loader) error {
		stored, err := l.StoredDictionaries(ctx)
		if err != nil {
			return err
		}
		done = changesOf(rows, stored)
		for i, c := range done.Dictionaries {
			if c.Nothing() {
				continue
			}
			if err := l.Dictionaries(ctx, rows[i:i+1]); err != nil {
				return importFault(err, list, i, at[i])
			}
		}
		return nil
	})
	return done, err
}

// list finds the list of dictionaries: the file itself, or its member data.
func (b *bundle) list() (part, error) {
	for _, p := range b.source.parts() {
		switch {
		case p.name != "" && p.name != "data":
		case p.kind != array:
			return p, faults{{p.position, p.name, fmt.Sprintf("expected %s, got %s", array, p.kind)}}
		default:
			return p, nil
		}
	}
	return part{}, faults{{text: noList, position: position{offset: b.source.(*jsonFile).begin}}}
}

func (b *bundle) readDictionaries(ctx context.Context, list part) (rows []db.DictionaryRow, at []position, err error) {
	c := &checker{lenient: true}
	names := map[string]bool{}
	err = b.each(ctx, c, list.name, func(n *node) error {
		row := readDictionary(c, n)
		if names[row.Name] {
			c.faultAt(n, "name", "is given twice")
		}
		names[row.Name] = row.Name != ""
		rows, at = append(rows, row), append(at, n.position)
		return c.enough()
	})
	if err == nil && c.faults != nil {
		err = c.faults
	}
	return rows, at, err
}

// importFault places the fault of a dictionary that the database refused.
func importFault(err error, list part, i int, at position) error {
	f, ok := err.(*db.RowFault)
	if !ok {
		return err
	}
	return faults{{at, fmt.Sprintf("%s[%d]", list.name, i), f.Text}}
}

// changesOf compares the dictionaries of a file with those in the database.
func changesOf(rows []db.DictionaryRow, stored []db.Dictionary) Import {
	before := map[string]db.DictionaryRow{}
	for _, d := range stored {
		before[d.Name] = d.DictionaryRow
	}
	done := Import{Dictionaries: make([]DictionaryChange, len(rows))}
	for i, row := range rows {
		was, known := before[row.Name]
		done.Dictionaries[i] = changeOf(row, was, known)
		delete(before, row.Name)
	}
	done.Others = len(before)
	return done
}

func changeOf(row, was db.DictionaryRow, known bool) DictionaryChange {
	c := DictionaryChange{Name: row.Name, IsNew: !known, IsActive: row.IsActive}
	if known {
		c.Switched = row.IsActive != was.IsActive
		c.Described = row.Description != was.Description || !slices.Equal(row.Labels, was.Labels)
	}
	gone := map[string]db.DictionaryValueRow{}
	for _, v := range was.Values {
		gone[v.Code] = v
	}
	for _, v := range row.Values {
		old, stood := gone[v.Code]
		delete(gone, v.Code)
		if !stood {
			c.Added = append(c.Added, v.Code)
			continue
		}
		if v.IsActive && !old.IsActive {
			c.Activated = append(c.Activated, v.Code)
		}
		if !v.IsActive && old.IsActive {
			c.Deactivated = append(c.Deactivated, v.Code)
		}
		if v.Description != old.Description {
			c.Redescribed = append(c.Redescribed, v.Code)
		}
		if otherwise(v.ParentCode, "") != otherwise(old.ParentCode, "") {
			c.Moved = append(c.Moved, v.Code)
		}
	}
	c.Removed = slices.Sorted(maps.Keys(gone))
	return c
}
