package pgserver

import "os"

// variables are those by which libpq and its like are told where a server is and what a session is like
// (https://www.postgresql.org/docs/current/libpq-envars.html). A server that is started takes some as its defaults.
var variables = []string{
	"PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGPASSFILE", "PGREQUIREAUTH",
	"PGCHANNELBINDING", "PGSERVICE", "PGSERVICEFILE", "PGOPTIONS", "PGAPPNAME", "PGSSLMODE", "PGREQUIRESSL",
	"PGSSLNEGOTIATION", "PGSSLCOMPRESSION", "PGSSLCERT", "PGSSLKEY", "PGSSLPASSWORD", "PGSSLCERTMODE", "PGSSLROOTCERT",
	"PGSSLCRL", "PGSSLCRLDIR", "PGSSLSNI", "PGREQUIREPEER", "PGSSLMINPROTOCOLVERSION", "PGSSLMAXPROTOCOLVERSION",
	"PGGSSENCMODE", "PGKRBSRVNAME", "PGGSSLIB", "PGGSSDELEGATION", "PGCONNECT_TIMEOUT", "PGCLIENTENCODING",
	"PGTARGETSESSIONATTRS", "PGLOADBALANCEHOSTS", "PGMINPROTOCOLVERSION", "PGMAXPROTOCOLVERSION",
	"PGDATESTYLE", "PGTZ", "PGGEQO", "PGSYSCONFDIR", "PGLOCALEDIR",
}

// forgetEnvironment takes the variables out of the environment of this process. They are about another server: the URL
// of the own one is complete. The driver reads them wherever a connection is configured, and offers no other way to
// keep, say, an unknown PGSERVICE from being an error.
func forgetEnvironment() error {
	for _, name := range variables {
		if _, set := os.LookupEnv(name); set {
			if err := os.Unsetenv(name); err != nil {
				return err
			}
		}
	}
	return nil
}
