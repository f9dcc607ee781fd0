// Package telemetry makes metrics, traces and log lines about jobs. Packages api and db report their work to it through
// types of their own, and do not import it.
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

// propagator reads and writes the W3C traceparent. It ignores baggage, because callers' data must not reach other
// systems.
var propagator = propagation.TraceContext{}

// Telemetry observes one process. It is safe for concurrent use.
type Telemetry struct {
	log      *slog.Logger
	provider trace.TracerProvider
	tracer   trace.Tracer
	metrics  metrics
	registry *prometheus.Registry
}

// New makes a Telemetry. If provider is nil, nothing is traced.
func New(log *slog.Logger, provider trace.TracerProvider) *Telemetry {
	if provider == nil {
		provider = noop.NewTracerProvider()
	}
	t := &Telemetry{log: log, provider: provider, tracer: provider.Tracer("github.com/reiestr/reiestr"),
		registry: prometheus.NewRegistry()}
	t.metrics = newMetrics(t.registry)
	return t
}

// Tracer returns a tracer that makes a span for each statement within a trace. The span has the name and the text of
// the statement, never its parameters. The tracer is nil if nothing is traced.
func (t *Telemetry) Tracer() pgx.QueryTracer {
	if _, off := t.provider.(noop.TracerProvider); off {
		return nil
	}
	return otelpgx.NewTracer(otelpgx.WithTracerProvider(t.provider),
		otelpgx.WithMeterProvider(noopmetric.NewMeterProvider()),
		otelpgx.WithDisableConnectionDetailsInAttributes(), otelpgx.WithSpanNameCtxFunc(statementName))
}

// statementName returns the name in the comment of a statement (SELECT /* Name */ …), or else its first word.
func statementName(ctx context.Context, sql string) string {
	if _, behind, traced := strings.Cut(sql, "*/;"); traced {
		sql = behind
	}
	if words := strings.Fields(sql); len(words) > 3 && words[1] == "/*" && words[3] == "*/" {
		return words[2]
	}
	return otelpgx.SQLOperationName(ctx, sql)
}

// Handler makes a span for each request. If the request has a traceparent, the span belongs to the caller's trace.
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

// Answered counts an answer, and names the span of the request after its route. The path is not recorded, because it
// holds ids of patients.
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

// Transaction counts a transaction, and makes a span for it if ctx has one.
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

// Trace returns the traceparent of the request; empty without a trace.
func (t *Telemetry) Trace(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagator.Inject(ctx, carrier)
	return carrier.Get("traceparent")
}

// Pruned counts rows that were removed because their retention was over.
func (t *Telemetry) Pruned(kind string, rows int64) {
	t.metrics.pruned.WithLabelValues(kind).Add(float64(rows))
}

// Jobs makes a span for each job of a batch, from the claim to the commit. The span belongs to the trace of the request
// that was accepted. The statements of the batch belong to the span of its first traced job; the spans of the other
// jobs have a link to that span.
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
			return // the worker logs the error
		}
		for _, run := range runs {
			t.log.LogAttrs(ctx, slog.LevelInfo, "job ended", slog.String("job", run.ID.String()),
				slog.String("action", string(run.Action)),
				slog.String("refusal", string(run.Refusal)), slog.Int("batch", len(runs)), slog.Duration("took", took))
		}
	}
}

// end ends a span. A refusal by a rule is a result and not an error. The text of an error is in the log only.
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
