package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"
	_ "time/tzdata" // business time zones on machines that have none

	"github.com/alecthomas/kong"

	"github.com/reiestr/reiestr/api"
	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/internal/pgserver"
	"github.com/reiestr/reiestr/worker"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

type streams struct {
	in       io.Reader
	out, err io.Writer
}

// cli describes the whole command line. kong reads flags, variables and help texts from its tags.
type cli struct {
	Config `embed:""`

	Serve   serveCommand   `cmd:"" help:"Serve the API and carry out jobs, in one process."`
	Migrate migrateCommand `cmd:"" help:"Show and change the version of the database schema."`
	Load    loadCommand    `cmd:"" help:"Load fixture bundles: rows with known ids are replaced whole; one transaction a file."`
	Import  importCommand  `cmd:"" name:"import-dictionaries" help:"Import dictionaries from JSON as the central system answers it, and print what changes."`
	Expire  expireCommand  `cmd:"" help:"Recall the service requests that have expired, once, and print how many."`
	Prune   pruneCommand   `cmd:"" help:"Remove the ended jobs, events and idempotency keys that are past their retention, once, and print how many."`
	Token   tokenCommand   `cmd:"" help:"Issue and revoke access tokens."`
	APIKey  apiKeyCommand  `cmd:"" name:"apikey" help:"Issue and revoke api keys of information systems."`
	Jobs    jobsCommand    `cmd:"" help:"List asynchronous jobs, and retry failed ones."`
	OpenAPI openAPICommand `cmd:"" name:"openapi" help:"Print the API contract as YAML."`
	Version versionCommand `cmd:"" help:"Print the build and the Go version."`
	Help    helpCommand    `cmd:"" help:"Print this help; 'help config' prints the configuration."`
}

// Config holds the settings. They are read from the environment and from flags; a flag takes precedence.
type Config struct {
	DatabaseURL         string `env:"REIESTR_DATABASE_URL" help:"PostgreSQL URL; several hosts allowed. Empty: an own PostgreSQL server under the data directory." placeholder:"URL"`
	DatabaseConnections uint16 `env:"REIESTR_DATABASE_CONNECTIONS" default:"0" help:"The most connections to the database that this process uses, besides one or two that listen; 0: one for each core, at least 4." placeholder:"N"`
	LockWaiters         uint16 `env:"REIESTR_LOCK_WAITERS" default:"100" help:"The most commands of this process that may wait at the same time for locked rows. A waiting command uses no connection. One command more is answered 503 at once." placeholder:"N"`
	Requests            uint16 `env:"REIESTR_REQUESTS" default:"0" help:"The most reads, and the most commands, of this process that are carried out at the same time; 0: 16 for each connection to the database. Not counted are those that wait for locked rows or by Prefer. One more waits for a second; while the process is overloaded, it is answered 503 at once." placeholder:"N"`

	DataDir          string       `env:"REIESTR_DATA_DIR" default:".reiestr" help:"Folder of the own server: data, socket and log." placeholder:"DIR"`
	PostgresBin      string       `env:"REIESTR_POSTGRES_BIN" help:"Folder of the PostgreSQL server binaries for the own server. Empty: usual places are searched." placeholder:"DIR"`
	PostgresImage    string       `env:"REIESTR_POSTGRES_IMAGE" default:"postgres:17" help:"Container image for the own server where there are no binaries." placeholder:"IMAGE"`
	PostgresDownload string       `env:"REIESTR_POSTGRES_DOWNLOAD" enum:"auto,never" default:"auto" help:"auto: where there are neither binaries nor Docker, download a pinned PostgreSQL for the own server; never: refuse." placeholder:"WHEN"`
	PostgresMirror   string       `env:"REIESTR_POSTGRES_MIRROR" default:"${mirror}" help:"Maven repository to download PostgreSQL from. The checksum of the archive is part of this program." placeholder:"URL"`
	Listen           string       `env:"REIESTR_LISTEN" default:"127.0.0.1:8080" help:"API address; port 0 picks a free one." placeholder:"HOST:PORT"`
	TimeZone         string       `env:"REIESTR_TIME_ZONE" default:"Europe/Kyiv" help:"Business time zone: which day today is." placeholder:"ZONE"`
	RequireAPIKey    bool         `env:"REIESTR_REQUIRE_API_KEY" default:"true" negatable:"" help:"Require the api key of the calling information system."`
	OIDCIssuer       string       `name:"oidc-issuer" env:"REIESTR_OIDC_ISSUER" help:"Issuer whose signed JWTs are accepted as access tokens too. Claims: sub is the user, legal_entity_id (or else client_id) the legal entity, both uuids; scope lists the scopes. Needs the audience." placeholder:"URL"`
	OIDCAudience     string       `name:"oidc-audience" env:"REIESTR_OIDC_AUDIENCE" help:"Value that the claim aud of these JWTs must contain." placeholder:"NAME"`
	RateLimit        float64      `env:"REIESTR_RATE_LIMIT" default:"0" help:"Requests a second that each legal entity may make of this process; 0: any number." placeholder:"N"`
	RateBurst        int          `env:"REIESTR_RATE_BURST" default:"0" help:"Requests that a legal entity may make at once; at least the limit." placeholder:"N"`
	TrustedProxies   rest.Proxies `env:"REIESTR_TRUSTED_PROXIES" help:"Addresses and prefixes of the reverse proxies whose X-Forwarded-Host and X-Forwarded-Proto are believed; the headers of other peers are ignored. Empty: no proxy is believed." placeholder:"IP,…"`
	StrictClients    bool         `env:"REIESTR_STRICT_CLIENTS" help:"Answer 422 to unknown keys of bodies, which are ignored otherwise: to find the mistakes of a client."`
	LogLevel         slog.Level   `env:"REIESTR_LOG_LEVEL" default:"info" help:"debug, info, warn or error." placeholder:"LEVEL"`
	LogFormat        string       `env:"REIESTR_LOG_FORMAT" enum:",text,json" default:"" help:"text or json. Empty: text on a terminal, else json." placeholder:"FORMAT"`

	ExpiryTimes worker.TimesOfDay `env:"REIESTR_EXPIRY_TIMES" default:"00:00,04:00" help:"Times at which expired service requests are recalled, in the business time zone; never: this process does not recall them." placeholder:"HH:MM,…"`
	PruneTimes  worker.TimesOfDay `env:"REIESTR_PRUNE_TIMES" default:"02:00" help:"Times at which rows past their retention are removed, in the business time zone; never: this process does not remove them." placeholder:"HH:MM,…"`

	JobRetention   time.Duration `env:"REIESTR_JOB_RETENTION" default:"720h" help:"How long jobs are kept after their end; at least 24h." placeholder:"DURATION"`
	EventRetention time.Duration `env:"REIESTR_EVENT_RETENTION" default:"2160h" help:"How long events are kept, and so how long a reader of events may pause; at least 24h." placeholder:"DURATION"`
}

// environment holds the streams, the settings and the log of a command.
type environment struct {
	streams
	Config
	log *slog.Logger
	app *kong.Application
}

// usageError is a mistake on the command line that kong cannot detect.
type usageError struct{ error }

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	var c cli
	exit := -1
	parser, err := newParser(&c, s, kong.Exit(func(code int) { exit = code })) // --help
	if err != nil {
		return report(s, err)
	}
	parsed, err := parser.Parse(args)
	if exit >= 0 {
		return exit
	}
	if err != nil {
		fmt.Fprintf(s.err, "reiestr: %s (see 'reiestr help')\n", oneLine(err))
		return exitUsage
	}
	if _, err := time.LoadLocation(c.TimeZone); err != nil || c.TimeZone == "" || c.TimeZone == "Local" {
		fmt.Fprintf(s.err, "reiestr: time zone %q is not known; give one like Europe/Kyiv\n", c.TimeZone)
		return exitUsage
	}
	env := &environment{streams: s, Config: c.Config, log: newLogger(s.err, c.LogLevel, c.LogFormat), app: parser.Model}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return report(s, parsed.Run(env))
}

// newParser makes the parser that reads a command line into c.
func newParser(c *cli, s streams, options ...kong.Option) (*kong.Kong, error) {
	return kong.New(c, append(options,
		kong.Name("reiestr"),
		kong.Description("Licences and service requests of an eHealth registry, decided in SQL."),
		kong.Writers(s.out, s.err),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.UsageOnError(),
		kong.Vars{"mirror": pgserver.DefaultMirror},
		kong.PostBuild(emptyIsUnset),
		kong.Vars{"scopes": strings.Join(api.Scopes(), ", ")},
	)...)
}

// report prints the error of a failed command as one line, and returns the exit code.
func report(s streams, err error) int {
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(s.err, "reiestr: %s\n", oneLine(err))
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func newLogger(w io.Writer, level slog.Level, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "text" || format == "" && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

type versionCommand struct{}

func (versionCommand) Run(env *environment) error {
	_, err := fmt.Fprintf(env.out, "reiestr %s %s\n", buildID(), runtime.Version())
	return err
}

// buildID is the module version or the commit that the program was built from.
func buildID() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	id := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (id == "" || id == "(devel)") {
			id = s.Value
		}
	}
	if id == "" || id == "(devel)" {
		return "devel"
	}
	return id
}

type helpCommand struct {
	Topic string `arg:"" optional:"" enum:",config" default:"" help:"config: the configuration."`
}

func (h helpCommand) Run(env *environment) error {
	if h.Topic == "" {
		parser, err := newParser(&cli{}, env.streams, kong.Exit(func(int) {}))
		if err == nil {
			parser.Parse([]string{"--help"}) //nolint:errcheck // after the help, kong says that no command was given
		}
		return err
	}
	table := tabwriter.NewWriter(env.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "VARIABLE\tFLAG\tDEFAULT\tMEANING")
	for _, flag := range env.app.Flags {
		if len(flag.Envs) == 0 {
			continue
		}
		fmt.Fprintf(table, "%s\t--%s\t%s\t%s\n", flag.Envs[0], flag.Name, flag.Default, flag.Help)
	}
	fmt.Fprintln(table, "OTEL_EXPORTER_OTLP_ENDPOINT\t\t\tURL to send traces to (OTLP over HTTP). Empty: no traces. "+
		"The other standard OTEL_* variables work too.")
	return table.Flush()
}
