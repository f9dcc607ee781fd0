//go:build !linux

package pgserver

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// interruptWithParent is not to be had here: a server whose owner was killed runs on until the next owner stops it.
func interruptWithParent(*syscall.SysProcAttr) {}

// passFolder is not to be had here.
func passFolder(*exec.Cmd, *os.File) (string, error) { return "", errors.ErrUnsupported }
