package testdb

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/reiestr/reiestr/internal/pgserver"
)

const (
	memoryFolder = "/dev/shm"
	memoryWanted = 2 << 30 // bytes; the default of Docker's own containers, 64 MB, would not do
)

// startBinaries runs the server from the binaries of this machine. It looks for them first, as without any pgserver
// would turn to a container.
func startBinaries(ctx context.Context) (*Server, error) {
	bin, _, err := pgserver.Binaries(ctx, os.Getenv("REIESTR_POSTGRES_BIN"))
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

// preferMemory lets [os.TempDir], where a temporary server has its data, be a folder in memory until the answered
// function is called: making and dropping a database takes 30 ms there, ten times as long on a slow disk. Machines
// without such a folder, or with another wish in TMPDIR, keep theirs.
func preferMemory() (restore func()) {
	var memory syscall.Statfs_t
	err := syscall.Statfs(memoryFolder, &memory)
	_, wished := os.LookupEnv("TMPDIR")
	if err != nil || wished || uint64(memory.Bavail)*uint64(memory.Bsize) < memoryWanted {
		return func() {}
	}
	os.Setenv("TMPDIR", memoryFolder)
	return func() { os.Unsetenv("TMPDIR") }
}
