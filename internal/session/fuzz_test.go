package session

import (
	"strings"
	"testing"
)

// FuzzURL: the password of a URL is in no error, whatever else the URL holds.
func FuzzURL(f *testing.F) {
	for _, text := range []string{"", "db", "db?sslmode=x", "db?connect_timeout=x", ":x/db", "db\x00", "db?%zz",
		"[::1/db", "host,host2:1,2/db",
		"db?pool_max_conns=-1", "db?a b=c", "?service=nowhere", "db?sslrootcert=/nowhere", "db@x"} {
		f.Add("postgres://login:", "@host/"+text)
		f.Add("host=x password=", " dbname="+text)
	}
	const secret = "s3cr3tPassw0rd"
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.Contains(before+after, secret) || strings.Contains(after, "service") ||
			strings.Contains(after, "file") {
			return
		}
		if _, err := parse(before + secret + after); err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%q … %q: %v", before, after, err)
		}
	})
}
