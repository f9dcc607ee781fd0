package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// account is the user as which the processes of the server run.
type account struct {
	name     string // the number, if the system knows no name
	uid, gid int
}

// serverAccount returns the user that the server runs as; nil means the user of this process. PostgreSQL refuses to run
// as root. If this process is root, the server runs as the owner of the existing cluster, else as postgres, else as
// nobody.
func serverAccount(home *home) (*account, error) {
	self := os.Geteuid()
	belongs := self
	if info, err := home.Lstat(clusterFolder); err == nil {
		belongs = owner(info)
	}
	if self != 0 {
		if belongs != self {
			return nil, fmt.Errorf("the PostgreSQL cluster in %s belongs to user %s: run as that user or as root",
				home.name, userName(belongs))
		}
		return nil, nil
	}
	if belongs != 0 {
		info, err := home.Lstat(clusterFolder)
		if err != nil {
			return nil, err
		}
		return &account{userName(belongs), belongs, int(info.Sys().(*syscall.Stat_t).Gid)}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(u.Uid)
		gid, gidErr := strconv.Atoi(u.Gid)
		if uidErr == nil && gidErr == nil && uid != 0 {
			return &account{name, uid, gid}, nil
		}
	}
	return nil, errors.New("PostgreSQL does not run as root and there is neither a user postgres nor nobody to drop to: " +
		"create one (useradd --system postgres) or run as another user than root")
}

// userName returns the name of a user, or the number if there is no name.
func userName(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// patience is how long stop waits after a signal before it sends the next one. PostgreSQL gives its own children five
// seconds.
const patience = 6 * time.Second

// process is a running child.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // result of Wait; valid after ended is closed
}

// startProcess starts a program of PostgreSQL as the account (nil: this user). The child has a process group of its
// own, so that Ctrl-C on the terminal does not reach it. Where the system supports it, the child is interrupted when
// this process dies.
func startProcess(cmd *exec.Cmd, as *account) (*process, error) {
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC"} // the child gets no settings or secrets of this process
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	if cmd.Dir == "" {
		cmd.Dir = "/" // the account may not have access to the present folder
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	interruptWithParent(cmd.SysProcAttr)
	if as != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(as.uid), Gid: uint32(as.gid)}
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel takes the thread that started the child as its parent. So this thread must live as long as the child.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run waits for the end of the child. If the context ends first, run ends the child.
func (p *process) run(ctx context.Context) error {
	select {
	case <-p.ended:
		return p.err
	case <-ctx.Done():
		p.abandon()
		return ctx.Err()
	}
}

// abandon stops a child that is not wanted any more.
func (p *process) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = p.stop(ctx) // the child has ended in any case
}

// stop ends the child in up to three steps: SIGINT (PostgreSQL's fast shutdown), for which there is time until the
// context ends; SIGQUIT (immediate shutdown); SIGKILL. It returns the context's error if SIGINT was not enough.
func (p *process) stop(ctx context.Context) error {
	p.signal(syscall.SIGINT)
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
	}
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		p.signal(sig)
		select {
		case <-p.ended:
			return ctx.Err()
		case <-time.After(patience):
		}
	}
	<-p.ended
	return ctx.Err()
}

// signal sends a signal to the process group of the child, unless the child has ended.
func (p *process) signal(sig syscall.Signal) {
	select {
	case <-p.ended:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, sig) // fails if the child ends at this moment
	}
}
