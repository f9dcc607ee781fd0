package pg

import "context"

// Observer watches transactions, for metrics, traces and logs. Many goroutines call it at once, in the course of every
// transaction.
type Observer interface {
	// Transaction is called when a transaction of that name begins. Its statements run with the context that is returned.
	// end is called once, with the number of tries and the outcome.
	Transaction(ctx context.Context, name string) (_ context.Context, end func(tries int, err error))

	// Trace answers the traceparent of the context; "": there is none.
	Trace(ctx context.Context) string
}

// unobserved is an Observer that does nothing.
type unobserved struct{}

func (unobserved) Transaction(ctx context.Context, _ string) (context.Context, func(int, error)) {
	return ctx, func(int, error) {}
}

func (unobserved) Trace(context.Context) string { return "" }
