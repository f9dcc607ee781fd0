package pgserver

import "os"

// variables are the environment variables with which clients like libpq are told the server and the settings of a
// session (https://www.postgresql.org/docs/current/libpq-envars.html). A starting server takes some of them as
// defaults.
var variables = []string{
	"PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGPASSFILE", "PGREQUIREAUTH",
	"PGCHANNELBINDING", "PGSERVICE", "PGSERVICEFILE", "PGOPTIONS", "PGAPPNAME", "PGSSLMODE", "PGREQUIRESSL",
	"PGSSLNEGOTIATION", "PGSSLCOMPRESSION", "PGSSLCERT", "PGSSLKEY", "PGSSLPASSWORD", "PGSSLCERTMODE", "PGSSLROOTCERT",
	"PGSSLCRL", "PGSSLCRLDIR", "PGSSLSNI", "PGREQUIREPEER", "PGSSLMINPROTOCOLVERSION", "PGSSLMAXPROTOCOLVERSION",
	"PGGSSENCMODE", "PGKRBSRVNAME", "PGGSSLIB", "PGGSSDELEGATION", "PGCONNECT_TIMEOUT", "PGCLIENTENCODING",
	"PGTARGETSESSIONATTRS", "PGLOADBALANCEHOSTS", "PGMINPROTOCOLVERSION", "PGMAXPROTOCOLVERSION",
	"PGDATESTYLE", "PGTZ", "PGGEQO", "PGSYSCONFDIR", "PGLOCALEDIR",
}

// forgetEnvironment removes the variables from the environment of this process. They are meant for another server: the
// URL of the own server is complete. The driver reads the variables for every connection, and has no option against
// this. An unknown PGSERVICE, for example, would be an error.
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
