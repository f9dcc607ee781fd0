//go:build !linux

package pgserver

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// interruptWithParent does nothing: this system has no such signal. A server whose owner was killed runs until the next
// owner stops it.
func interruptWithParent(*syscall.SysProcAttr) {}

// passFolder fails: this system cannot pass a folder.
func passFolder(*exec.Cmd, *os.File) (string, error) { return "", errors.ErrUnsupported }
