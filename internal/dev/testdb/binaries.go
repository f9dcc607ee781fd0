package testdb

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"syscall"

	"github.com/reiestr/reiestr/internal/pgserver"
)

const (
	memoryFolder = "/dev/shm"
	memoryWanted = 2 << 30 // bytes; the default of Docker's own containers, 64 MB, would not do
)

// startBinaries runs the server from the binaries of this machine. Where this machine has none, they are downloaded. It
// looks for the binaries itself, because pgserver without binaries would start a container first.
func startBinaries(ctx context.Context) (*Server, error) {
	bin, err := pgserver.Install(ctx, pgserver.Config{
		Bin:      os.Getenv("REIESTR_POSTGRES_BIN"),
		Download: os.Getenv("REIESTR_POSTGRES_DOWNLOAD"),
		Mirror:   os.Getenv("REIESTR_POSTGRES_MIRROR"),
		Logger:   slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAbsent, err)
	}
	defer preferMemory()()
	server, err := pgserver.Temporary(ctx, pgserver.Config{Bin: bin})
	if err != nil {
		return nil, err
	}
	return &Server{URL: server.URL(), Description: server.Description(), stop: server.Close}, nil
}

// preferMemory sets TMPDIR, the place of the data of a temporary server, to a folder in memory until restore is called:
// making and dropping a database takes 30 ms there, and ten times as long on a slow disk. It changes nothing where
// TMPDIR is set already, or where the machine has no such folder or too little room in it.
func preferMemory() (restore func()) {
	var memory syscall.Statfs_t
	err := syscall.Statfs(memoryFolder, &memory)
	wished := os.Getenv("TMPDIR")
	if err != nil || wished != "" || uint64(memory.Bavail)*uint64(memory.Bsize) < memoryWanted {
		return func() {}
	}
	os.Setenv("TMPDIR", memoryFolder)
	return func() { os.Unsetenv("TMPDIR") }
}
