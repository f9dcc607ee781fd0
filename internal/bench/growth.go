package main

import (
	"context"
	"errors"
)

func (b *bench) measureGrowth(ctx context.Context) (r report, err error) {
	return r, errors.New("TODO")
}
func (b *bench) measureSoak(ctx context.Context) (r report, err error) { return r, errors.New("TODO") }
