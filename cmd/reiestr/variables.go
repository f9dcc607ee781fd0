package main

import (
	"os"
	"reflect"

	"github.com/alecthomas/kong"
)

// emptyIsUnset makes kong treat an empty setting as not given: an empty flag yields to the variable, and an empty
// variable to the default. Scripts and container files often set a variable to nothing, and an empty value must not
// mean something else, such as an address on all interfaces.
func emptyIsUnset(k *kong.Kong) error {
	for _, flag := range k.Model.Flags {
		if len(flag.Envs) > 0 {
			flag.Mapper = setting{flag.Mapper}
		}
	}
	return nil
}

// setting reads the value of a flag of Config.
type setting struct{ kong.Mapper }

// Decode implements kong.Mapper. kong calls it for the flag, the variable and the default.
func (s setting) Decode(c *kong.DecodeContext, target reflect.Value) error {
	token := c.Scan.Peek()
	isValue := token.Type == kong.FlagValueToken || target.Kind() != reflect.Bool // --flag alone is true
	if text, ok := token.Value.(string); !isValue || !ok || text != "" {
		return s.Mapper.Decode(c, target)
	}
	c.Scan.Pop()
	text := c.Value.Default
	for _, name := range c.Value.Tag.Envs {
		if value := os.Getenv(name); value != "" {
			text = value
			break
		}
	}
	target.SetZero()
	if text == "" {
		return nil
	}
	return s.Mapper.Decode(c.WithScanner(kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: text})), target)
}
