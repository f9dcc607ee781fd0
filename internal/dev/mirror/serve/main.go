// Serve is a mirror with one archive: the PostgreSQL that is installed on this Debian machine.
//
//	go run ./internal/dev/mirror/serve -archives COPY/internal/pgserver/archives.sha256
//
// With -jar it writes the archive into a file and serves nothing:
//
//	go run ./internal/dev/mirror/serve -jar FILE
//
// It writes the checksum of the archive into the line of this platform in the file. The file should be in a copy of the
// repository. It prints the URL of the mirror, and serves until it is interrupted.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"syscall"
	"time"

	"github.com/reiestr/reiestr/internal/dev/mirror"
	"github.com/reiestr/reiestr/internal/pgserver"
)

func main() {
	archives := flag.String("archives", "", "file of checksums to change")
	jar := flag.String("jar", "", "file to write, without the shared libraries")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *archives, *jar); err != nil {
		fmt.Fprintln(os.Stderr, "mirror:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, archives, file string) error {
	bin, _, err := pgserver.Binaries(ctx, os.Getenv("REIESTR_POSTGRES_BIN"))
	if err != nil {
		return err
	}
	var jar bytes.Buffer
	if err := mirror.Pack(ctx, &jar, bin, file == ""); err != nil {
		return err
	}
	if file != "" {
		return os.WriteFile(file, jar.Bytes(), 0o644)
	}
	path, err := pin(archives, jar.Bytes())
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/"+path {
				http.NotFound(w, r)
				return
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(jar.Bytes()))
		}),
	}
	context.AfterFunc(ctx, func() { server.Close() })
	fmt.Printf("http://%s\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// pin writes the checksum of the jar into the line of this platform, and answers the path in this line.
func pin(archives string, jar []byte) (path string, err error) {
	text, err := os.ReadFile(archives)
	if err != nil {
		return "", err
	}
	platform := runtime.GOOS + "-" + runtime.GOARCH
	if runtime.GOARCH == "arm64" {
		platform += "v8"
	}
	line := regexp.MustCompile(`(?m)^[0-9a-f]{64}(  (\S+/embedded-postgres-binaries-` + platform + `/\S+))$`)
	found := line.FindSubmatch(text)
	if found == nil {
		return "", fmt.Errorf("%s has no line for %s", archives, platform)
	}
	text = bytes.Replace(text, found[0], fmt.Appendf(nil, "%x%s", sha256.Sum256(jar), found[1]), 1)
	return string(found[2]), os.WriteFile(archives, text, 0o644)
}
