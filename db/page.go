package db

import "math"

// Page selects a part of a list.
type Page struct {
	Number int64 // the first page is 1
	Size   int64 // at least 1
}

// offset is the number of entries before the page. Where this number is too large for an int64, the largest int64
// stands for it: it is behind the end of every list.
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

// listOf runs a query each of whose rows has the total. A page behind the end has no row, so the first row of the list
// is read for the total.
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
