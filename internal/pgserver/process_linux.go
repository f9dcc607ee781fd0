package pgserver

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// interruptWithParent lets the kernel interrupt the child when the thread that started it dies.
func interruptWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }

// passFolder hands an open folder to the child and returns the path the child knows it by: it works even where the
// child's user may not pass the folder's parents.
func passFolder(cmd *exec.Cmd, folder *os.File) (string, error) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		return "", err
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, folder)
	return fmt.Sprintf("/proc/self/fd/%d", 2+len(cmd.ExtraFiles)), nil // after the three standard files
}
