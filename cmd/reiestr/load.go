package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/bundle"
)

type loadCommand struct {
	Files  []string `arg:"" help:"Bundles, JSON or YAML; - reads stdin." name:"file"`
	DryRun bool     `help:"Only check the files; nothing is loaded."`
}

func (c loadCommand) Run(ctx context.Context, env *environment) error {
	return asOwner(ctx, env, "reiestr load", func(d *db.DB) error {
		for _, file := range c.Files {
			bar := progress{name: file}
			if isTerminal(env.err) {
				bar.out = env.err
			}
			loaded, err := bundle.LoadFile(ctx, d, file, bundle.Options{DryRun: c.DryRun, Progress: bar.show})
			bar.end()
			if err != nil {
				return err
			}
			fmt.Fprintf(env.out, "%s: %s\n", file, summary(loaded, c.DryRun))
		}
		return nil
	})
}

func summary(loaded bundle.Summary, dryRun bool) string {
	var counts []string
	for _, c := range loaded {
		counts = append(counts, fmt.Sprintf("%d %s", c.Rows, c.Section))
	}
	text := "nothing"
	if len(counts) > 0 {
		text = strings.Join(counts, ", ")
	}
	if dryRun {
		return text + " checked, nothing loaded"
	}
	return text + " loaded"
}

// progress draws a bar on a terminal, at most ten times a second.
type progress struct {
	name  string
	out   io.Writer // nil: no terminal
	drawn time.Time
}

const barWidth = 40

func (p *progress) show(done, total int64) {
	if p.out == nil || total <= 0 || time.Since(p.drawn) < 100*time.Millisecond {
		return
	}
	p.drawn = time.Now()
	filled := int(min(done, total) * barWidth / total)
	fmt.Fprintf(p.out, "\r%s [%s%s] %3d %%", p.name, strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled),
		min(done, total)*100/total)
}

// end removes the bar from the terminal.
func (p *progress) end() {
	if p.out != nil && !p.drawn.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
