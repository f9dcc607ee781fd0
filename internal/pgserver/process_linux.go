package pgserver

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// interruptWithParent makes the kernel send SIGINT to the child when the thread that started it dies.
func interruptWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGINT }

// passFolder passes an open folder to the child, and returns the path by which the child can open it. This works even
// if the user of the child may not enter the parents of the folder.
func passFolder(cmd *exec.Cmd, folder *os.File) (string, error) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		return "", err
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, folder)
	return fmt.Sprintf("/proc/self/fd/%d", 2+len(cmd.ExtraFiles)), nil // after the three standard files
}
