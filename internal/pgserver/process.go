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

// account is the user a process drops to.
type account struct {
	name     string // empty when the system knows only the number
	uid, gid int
}

// serverAccount returns the user that the server runs as; nil stands for the user of this process. PostgreSQL refuses
// to run as root: then its user is the owner of an existing cluster, else postgres, else nobody.
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

// userName returns the name of a user, its number when it has none.
func userName(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// patience is the time a child has to obey a signal: PostgreSQL itself gives its own children five seconds.
const patience = 6 * time.Second

// process is a running child.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // how it ended, to be read after ended
}

// startProcess starts a child of PostgreSQL as the account (nil: this user): in a process group of its own, so that
// Ctrl-C on the terminal leaves it alone, and interrupted when this process dies.
func startProcess(cmd *exec.Cmd, as *account) (*process, error) {
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC"} // nothing of the caller's settings or secrets
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	if cmd.Dir == "" {
		cmd.Dir = "/" // the caller's may be closed to the account
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	interruptWithParent(cmd.SysProcAttr)
	if as != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(as.uid), Gid: uint32(as.gid)}
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// For the kernel the parent is the thread that started the child: it has to live as long as the child.
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

// run waits for the child's end, and ends it when the context ends first.
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
	_ = p.stop(ctx) // it has ended, one way or the other
}

// stop ends the child in three steps: an interrupt, for PostgreSQL a fast shutdown, which has time until the context
// ends; a quit, an immediate shutdown; a kill. It returns the context's error when the interrupt was not enough.
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

// signal reaches the whole process group of the child, unless that has ended.
func (p *process) signal(sig syscall.Signal) {
	select {
	case <-p.ended:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, sig) // it may end at this moment
	}
}
