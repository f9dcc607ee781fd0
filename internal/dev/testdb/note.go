package testdb

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Note writes URL and description of the server into a file, and answers the variable by which tests find the file.
// Its value is the same in each run with such a server in this working directory: go test keeps the result of a package
// as long as the variables that its tests read stay the same, and the URL of a server that was started is another one
// in each run. The value is another one if the tests must run again: for another version, image or settings.
//
// One process at a time has the file of a working directory. For a second one Note answers a variable with an empty
// value, and its tests read the URL. Remove forgets the server. The file is in the cache folder of the user, because go
// test would notice a change of a file of the module.
func (s *Server) Note() (variable string, remove func(), err error) {
	none := func() {}
	here, err := os.Getwd()
	if err != nil {
		return "", none, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return noteVariable + "=", none, nil //nolint:nilerr // a user without a home works, without kept results
	}
	address := ""
	if s.stop == nil { // a server that was not started here stays where it is
		address = s.URL
	}
	identity := strings.Join([]string{here, s.Source, s.version, address, os.Getenv(imageVariable),
		os.Getenv(settingsVariable)}, "\x00")
	path := filepath.Join(cache, "reiestr-tests", fmt.Sprintf("%x", sha256.Sum256([]byte(identity)))[:16])
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", none, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // the URL holds a password
	if err != nil {
		return "", none, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return noteVariable + "=", none, file.Close()
	}
	remove = func() {
		file.Truncate(0) //nolint:errcheck // a note that stays names a server that does not answer
		file.Close()
	}
	err = file.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(file, "%s\n%s\n", s.URL, s.Description)
	}
	if err != nil {
		remove()
		return "", none, err
	}
	return noteVariable + "=" + path, remove, nil
}

// readNote answers what Note has written.
func readNote(path string) (address, description string, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", noteVariable, err)
	}
	lines := strings.Split(string(content), "\n")
	if len(lines) < 2 {
		return "", "", fmt.Errorf("%s: %s names no server: withdb has ended", noteVariable, path)
	}
	return lines[0], lines[1], nil
}
