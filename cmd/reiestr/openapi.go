package main

import "github.com/reiestr/reiestr/api"

type openAPICommand struct {
	Version string `enum:"3.1,3.0" default:"3.1" help:"OpenAPI version: 3.1 or 3.0."`
}

func (c openAPICommand) Run(env *environment) error {
	document, err := api.Document(c.Version)
	if err != nil {
		return err
	}
	_, err = env.out.Write(document)
	return err
}
