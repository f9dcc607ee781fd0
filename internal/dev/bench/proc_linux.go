package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc, a hundredth of a second on every Linux that Go runs on.
const tick = time.Second / 100

// stat is a line of /proc/PID/stat: the parent, and the CPU times of the process and of its ended children.
type stat struct {
	parent       int
	self, waited time.Duration
}

func statOf(pid int) (stat, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false
	}
	// The name of the program is in parentheses and may contain any character. The state, the parent and the other fields
	// follow it.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 15 {
		return stat{}, false
	}
	number := func(i int) time.Duration {
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		return time.Duration(n) * tick
	}
	parent, _ := strconv.Atoi(fields[1])
	return stat{parent, number(11) + number(12), number(13) + number(14)}, true
}

// cpuOf answers the CPU time of a process; false: it is not known.
func cpuOf(pid int) (time.Duration, bool) {
	s, ok := statOf(pid)
	return s.self, ok
}

// cpuOfFamily answers the CPU time of a process and its children, ended children included. A child that ends during the
// count would be counted twice or not at all, so the count is repeated until no child has ended during it.
func cpuOfFamily(pid int) (time.Duration, bool) {
	for range 100 {
		before, ok := statOf(pid)
		if !ok {
			return 0, false
		}
		total := before.self + before.waited
		entries, _ := filepath.Glob("/proc/[0-9]*")
		for _, entry := range entries {
			child, _ := strconv.Atoi(filepath.Base(entry))
			if c, ok := statOf(child); ok && c.parent == pid {
				total += c.self + c.waited
			}
		}
		if after, ok := statOf(pid); ok && after.waited == before.waited {
			return total, true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return 0, false
}

// memoryOf answers the resident memory of a process, now and at its highest, in bytes.
func memoryOf(pid int) (resident, most int64, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, false
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			resident = kib << 10
		case "VmHWM":
			most = kib << 10
		}
	}
	return resident, most, true
}
