package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/reiestr/reiestr/db"
	"github.com/reiestr/reiestr/internal/bundle"
)

type importCommand struct {
	File   string `arg:"" help:"JSON as GET /api/v2/dictionaries answers it, or its list data alone; - reads stdin." name:"file"`
	DryRun bool   `help:"Only show what would change."`
}

func (c importCommand) Run(ctx context.Context, env *environment) error {
	return asOwner(ctx, env, "reiestr import-dictionaries", func(d *db.DB) error {
		done, err := bundle.ImportDictionaries(ctx, d, c.File, c.DryRun)
		if err != nil {
			return err
		}
		changed := 0
		for _, dictionary := range done.Dictionaries {
			if !dictionary.Nothing() {
				changed++
				fmt.Fprintln(env.out, changeText(dictionary))
			}
		}
		what := "changed"
		if c.DryRun {
			what = "would change, nothing imported"
		}
		_, err = fmt.Fprintf(env.out, "%s: %d dictionaries, %d %s; %d others stay as they are\n", c.File,
			len(done.Dictionaries), changed, what, done.Others)
		return err
	})
}

// changeText tells in one line what changes of a dictionary.
func changeText(c bundle.DictionaryChange) string {
	var changes []string
	add := func(what string, codes []string) {
		if len(codes) > 0 {
			changes = append(changes, fmt.Sprintf("%d %s (%s)", len(codes), what, someOf(codes)))
		}
	}
	if c.IsNew {
		changes = append(changes, "new")
	}
	if c.Switched {
		changes = append(changes, map[bool]string{true: "is active again", false: "is no longer active"}[c.IsActive])
	}
	if c.Described {
		changes = append(changes, "description or labels changed")
	}
	add("added", c.Added)
	add("removed", c.Removed)
	add("activated", c.Activated)
	add("deactivated", c.Deactivated)
	add("described anew", c.Redescribed)
	add("moved", c.Moved)
	return c.Name + ": " + strings.Join(changes, ", ")
}

// mostNamed is how many codes are shown by name.
const mostNamed = 10

func someOf(codes []string) string {
	if len(codes) <= mostNamed {
		return strings.Join(codes, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(codes[:mostNamed], ", "), len(codes)-mostNamed)
}
