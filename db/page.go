package db

import "math"

// Page says which part of a list is wanted.
type Page struct {
	Number int64 // from 1 on
	Size   int64 // at least 1
}

// offset is the number of entries in front of the page; the largest number where it cannot be counted, as that is
// behind every list.
func (p Page) offset() int64 {
	if p.Number-1 > math.MaxInt64/p.Size {
		return math.MaxInt64
	}
	return (p.Number - 1) * p.Size
}

// List is a page of a list.
type List[T any] struct {
	Page
	Entries      []T
	TotalEntries int64 // on all pages
}

// listOf runs a query of which each row tells the total. A page behind the last has no row, so the first row of all is
// asked for the total.
func listOf[R, T any](
	p Page,
	query func(size, offset int64) ([]R, error),
	total func(R) int64,
	entry func(R) (T, error),
) (List[T], error) {
	list := List[T]{Page: p, Entries: []T{}}
	rows, err := query(p.Size, p.offset())
	if err != nil {
		return list, err
	}
	for _, r := range rows {
		e, err := entry(r)
		if err != nil {
			return list, err
		}
		list.Entries = append(list.Entries, e)
	}
	if len(rows) == 0 && p.Number > 1 {
		if rows, err = query(1, 0); err != nil {
			return list, err
		}
	}
	if len(rows) > 0 {
		list.TotalEntries = total(rows[0])
	}
	return list, nil
}
