// Package telemetry turns what the service does into metrics, traces and log lines about jobs. It is the observer that
// packages api and db tell of their work; neither of them knows what becomes of it.
package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
)

// propagator reads and writes the W3C traceparent, and no baggage: callers' notes are nothing to pass on.
var propagator = propagation.TraceContext{}

// Telemetry is the observer of one process. It is safe for concurrent use.
type Telemetry struct {
	log      *slog.Logger
	provider trace.TracerProvider
	tracer   trace.Tracer
	metrics  metrics
	registry *prometheus.Registry
}

// New makes an observer. Without a provider (nil) nothing is traced.
func New(log *slog.Logger, provider trace.TracerProvider) *Telemetry {
	if provider == nil {
		provider = noop.NewTracerProvider()
	}
	t := &Telemetry{log: log, provider: provider, tracer: provider.Tracer("github.com/reiestr/reiestr"),
		registry: prometheus.NewRegistry()}
	t.metrics = newMetrics(t.registry)
	return t
}

// Tracer makes a span of each statement that is part of a trace: its name and its text, never its parameters. Nil:
// nothing is traced.
func (t *Telemetry) Tracer() pgx.QueryTracer {
	if _, off := t.provider.(noop.TracerProvider); off {
		return nil
	}
	return otelpgx.NewTracer(otelpgx.WithTracerProvider(t.provider),
		otelpgx.WithMeterProvider(noopmetric.NewMeterProvider()),
		otelpgx.WithDisableConnectionDetailsInAttributes(), otelpgx.WithSpanNameCtxFunc(statementName))
}

// statementName is the name that package db has written into a statement, else its first word.
func statementName(ctx context.Context, sql string) string {
	if _, behind, traced := strings.Cut(sql, "*/;"); traced {
		sql = behind
	}
	if words := strings.Fields(sql); len(words) > 3 && words[1] == "/*" && words[3] == "*/" {
		return words[2]
	}
	return otelpgx.SQLOperationName(ctx, sql)
}

// Handler makes a span of each request, as a part of the caller's trace if the caller has one.
func (t *Telemetry) Handler(next http.Handler) http.Handler {
	if _, off := t.provider.(noop.TracerProvider); off {
		return next
	}
	traced := otelhttp.NewHandler(next, "", otelhttp.WithTracerProvider(t.provider),
		otelhttp.WithMeterProvider(noopmetric.NewMeterProvider()),
		otelhttp.WithPropagators(propagator),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method }),
		otelhttp.WithFilter(func(r *http.Request) bool { return !rest.Quiet(r.URL.Path) }))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// otelhttp would show this header as the address of the client, and any caller can send it.
		r.Header.Del("X-Forwarded-For")
		traced.ServeHTTP(w, r)
	})
}

// Answered counts an answer, and names the span of its request by route: the path itself holds ids of patients.
func (t *Telemetry) Answered(ctx context.Context, a rest.Answered) {
	t.metrics.answered(a)
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	if a.Route != "" {
		span.SetName(a.Method + " " + a.Route)
		span.SetAttributes(attribute.String("http.route", a.Route))
	}
	span.SetAttributes(attribute.String("url.path", a.Route), attribute.String("reiestr.request_id", a.RequestID))
	if a.Refusal != "" {
		span.SetAttributes(attribute.String("reiestr.refusal", string(a.Refusal)))
	}
}

// Transaction makes a span of a transaction that is part of a trace, and counts it.
func (t *Telemetry) Transaction(ctx context.Context, name string) (context.Context, func(int, error)) {
	start := time.Now()
	span := trace.SpanFromContext(ctx)
	if span.IsRecording() {
		ctx, span = t.tracer.Start(ctx, name)
	}
	return ctx, func(tries int, err error) {
		t.metrics.transaction(name, time.Since(start), tries, err)
		if span.IsRecording() {
			span.SetAttributes(attribute.Int("reiestr.tries", tries))
			end(span, err)
		}
	}
}

// Trace is the traceparent of the request.
func (t *Telemetry) Trace(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagator.Inject(ctx, carrier)
	return carrier.Get("traceparent")
}

// Pruned counts rows that were removed.
func (t *Telemetry) Pruned(kind string, rows int64) {
	t.metrics.pruned.WithLabelValues(kind).Add(float64(rows))
}

// Jobs makes a span of each job, as a part of the trace of its acceptance, from its claim to its commit. The statements
// of a batch are shown in the trace of its first job, to which the others are linked.
func (t *Telemetry) Jobs(ctx context.Context, runs []db.JobRun) (context.Context, func(error)) {
	start := time.Now()
	spans := make([]trace.Span, len(runs))
	var links []trace.Link
	first := ctx
	for i, run := range runs {
		accepted := propagator.Extract(ctx, propagation.MapCarrier{"traceparent": run.Trace})
		if !trace.SpanContextFromContext(accepted).IsSampled() {
			spans[i] = trace.SpanFromContext(context.Background())
			continue
		}
		var within context.Context
		within, spans[i] = t.tracer.Start(accepted, "job "+string(run.Action), trace.WithSpanKind(trace.SpanKindConsumer),
			trace.WithLinks(links...),
			trace.WithAttributes(attribute.String("reiestr.job", run.ID.String()),
				attribute.Int("reiestr.batch_size", len(runs))))
		if links == nil {
			first, links = within, []trace.Link{{SpanContext: spans[i].SpanContext()}}
		}
	}
	return first, func(err error) {
		took := time.Since(start)
		for i, run := range runs {
			if err == nil && run.Refusal != "" {
				spans[i].SetAttributes(attribute.String("reiestr.refusal", string(run.Refusal)))
			}
			end(spans[i], err)
		}
		t.metrics.batch(runs, err)
		if err != nil {
			return // the worker tells of it
		}
		for _, run := range runs {
			t.log.LogAttrs(ctx, slog.LevelInfo, "job ended", slog.String("job", run.ID.String()),
				slog.String("action", string(run.Action)),
				slog.String("refusal", string(run.Refusal)), slog.Int("batch", len(runs)), slog.Duration("took", took))
		}
	}
}

// end ends a span. A rule that says no is a result and no error. The text of an error stays in the log.
func end(span trace.Span, err error) {
	var refusal db.Refusal
	switch {
	case errors.As(err, &refusal):
		span.SetAttributes(attribute.String("reiestr.refusal", string(refusal)))
	case err != nil:
		span.SetStatus(codes.Error, "see the log")
	}
	span.End()
}
