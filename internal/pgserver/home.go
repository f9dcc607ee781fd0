package pgserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Names in the data directory, explained in the package comment.
const (
	clusterFolder    = "postgres"
	logFile          = "postgres.log"
	socketFolder     = "socket"
	socketFolderFile = "socket-folder"
	serverFile       = "server.json"
	containerFile    = "container.json"
)

// home is the data directory. All access goes through [os.Root]: a symbolic link must not lead a process of root to
// files outside.
type home struct {
	*os.Root
	name string // as the user gave it
	path string // absolute
}

// openHome opens the data directory, making it where it is missing.
func openHome(name string) (*home, error) {
	if name == "" {
		return nil, errors.New("no data directory given: set REIESTR_DATA_DIR")
	}
	fail := func(err error) (*home, error) {
		return nil, fmt.Errorf("cannot use data directory %s, choose another with REIESTR_DATA_DIR: %w", name, err)
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fail(err)
	}
	switch err := os.Mkdir(path, 0o700); {
	case err == nil:
		if err := letServerPass(path); err != nil {
			return fail(err)
		}
	case !errors.Is(err, fs.ErrExist):
		return fail(err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return fail(err)
	}
	return &home{Root: root, name: name, path: path}, nil
}

// letServerPass lets the user of the server, if this process is root, pass through a folder that only root could enter.
// The user cannot list the folder.
func letServerPass(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chmod(path, 0o711)
}

// has reports whether the data directory has a file or folder of this name.
func (h *home) has(name string) bool {
	_, err := h.Lstat(name)
	return err == nil
}

// replace removes the file and writes a new one. It never writes into an existing file, which may belong to another
// user.
func replace(root *os.Root, name string, content []byte, mode os.FileMode) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Chmod(mode), f.Close())
}

// owner returns the id of the user that owns a file.
func owner(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// An announcement tells other processes how to join the server. It is valid as long as the process that wrote it holds
// the lock.
type announcement struct {
	PID         int    `json:"pid"`
	URL         string `json:"url"`
	Socket      string `json:"socket,omitempty"` // folder of the socket, if outside of the data directory
	Description string `json:"description"`
}

// announce writes the announcement for the processes that wait to join.
func (h *home) announce(a announcement) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	const draft = serverFile + ".new"
	if err := replace(h.Root, draft, text, 0o600); err != nil {
		return fmt.Errorf("cannot announce the server: %w", err)
	}
	if err := h.Rename(draft, serverFile); err != nil {
		return fmt.Errorf("cannot announce the server: %w", err)
	}
	return nil
}

// announced reads the announcement, which may be stale.
func (h *home) announced() (a announcement, err error) {
	text, err := h.ReadFile(serverFile)
	if err != nil {
		return a, fmt.Errorf("no server is announced: %w", err)
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("%s does not say how to join: %w", filepath.Join(h.name, serverFile), err)
	}
	return a, nil
}

// forgetServer removes the announcement.
func (h *home) forgetServer() error {
	if err := h.Remove(serverFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove the announcement of a server: %w", err)
	}
	return nil
}

// lockFile is a file with a flock. The kernel releases the lock when the process ends, also when it is killed.
type lockFile struct{ f *os.File }

// tryLock takes the lock, or returns the id of the process that holds it; 0 if the id is not known.
func (h *home) tryLock(name string) (lock *lockFile, holder int, err error) {
	f, err := h.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot lock data directory %s, use it as the user it belongs to or choose another "+
			"with REIESTR_DATA_DIR: %w", h.name, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		text := make([]byte, 20)
		n, _ := f.Read(text)
		holder, _ = strconv.Atoi(strings.TrimSpace(string(text[:n])))
		return nil, holder, f.Close()
	}
	if err == nil {
		_, err = f.WriteAt(fmt.Appendf(nil, "%-19d\n", os.Getpid()), 0) // overwrites the longest id
	}
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("cannot lock %s: %w", filepath.Join(h.name, name), err), f.Close())
	}
	return &lockFile{f}, 0, nil
}

// release releases the lock. The file stays: if it were removed, two processes could lock two files of the same name.
func (l *lockFile) release() error { return l.f.Close() }
