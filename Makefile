# Everything a developer does. `make` alone explains itself.
GO ?= go
BIN := bin
# The packages that `make test` runs, and further flags for go test.
PACKAGES ?= ./...
TESTFLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test prove mutants hostile bench build generate schema lint clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Start PostgreSQL, load the demo and serve on http://127.0.0.1:8080, with calls to paste
	$(BIN)/reiestr serve --demo

# The race detector needs cgo, and cgo a C compiler. By default a process with the race detector sleeps for a second before it exits, and the tests start
# hundreds of processes: 20 ms are enough for reports of other threads.
test: ## Run the tests of what has changed against a real PostgreSQL: REIESTR_TEST_DATABASE_URL, else a container, else binaries (TESTFLAGS=-count=1: all)
	@race=-race; \
	if [ "$$($(GO) env CGO_ENABLED)" != 1 ] || ! command -v $$($(GO) env CC) >/dev/null; then \
		race=; echo "no C compiler: tests run without -race"; \
	fi; \
	export GORACE="atexit_sleep_ms=20 $$GORACE"; \
	set -x; $(GO) run ./internal/dev/testdb/withdb -- $(GO) test $$race -timeout 20m -parallel 4 $(TESTFLAGS) $(PACKAGES)

prove: ## Have 64 clients call real processes, and a checker judge their answers by the contract (PROVE="--minutes 5 --seed 7 --faults all")
	$(GO) run ./internal/dev/prove $(PROVE)

mutants: $(BIN)/sqlc ## Break one promise at a time in a copy of the module, and see whether a test notices it (hours; MUTANTS="--only sql/jobs.sql")
	$(GO) run ./internal/dev/mutants $(MUTANTS)

hostile: ## Send hostile requests to each operation of the document (HOSTILE="--requests 10000 --seed 7 --connections 10000")
	$(GO) run ./internal/dev/hostile $(HOSTILE)

bench: ## Measure the service beside pgbench and write the tables into docs/performance.md (some twelve minutes; BENCH="--quick --only accept", BENCH="--overload 20s")
	$(GO) run ./internal/dev/bench $(if $(BENCH),$(BENCH),--out docs/performance.md)

build: ## Build bin/reiestr
	CGO_ENABLED=0 $(GO) build -o $(BIN)/reiestr ./cmd/reiestr

generate: $(BIN)/sqlc $(BIN)/oapi-codegen ## Generate db/sqlc from sql/ and migrations/, the OpenAPI documents from api/, client/ from them, and docs/schema
	$(BIN)/sqlc generate
	$(GO) run ./cmd/reiestr openapi > docs/openapi.yaml
	$(GO) run ./cmd/reiestr openapi --version 3.0 > docs/openapi-3.0.yaml
	$(BIN)/oapi-codegen -config client/generate.yaml -o client/client.gen.go docs/openapi.yaml
	$(MAKE) schema

schema: ## Generate docs/schema from a freshly migrated PostgreSQL, found as for the tests, and the headers of sql/
	$(GO) test -count=1 ./internal/dev/schemadoc -run TestPages -update

plans: ## Store the plans of all queries in sql/plans, by PostgreSQL 17
	$(GO) run ./internal/dev/testdb/withdb -- $(GO) test ./db -count 1 -run 'TestPlans$$' -update-plans

lint: $(BIN)/staticcheck ## Check formatting, go vet and staticcheck
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(BIN)/staticcheck ./...

clean: ## Remove what was built and the data of make run, make bench, make prove, make mutants, make hostile and .ci/repeat
	rm -rf $(BIN) .reiestr .bench .prove .mutants .hostile .repeat

# The tools have a go.mod of their own, because the program does not need their many dependencies. The first build takes some minutes.
$(BIN)/sqlc $(BIN)/staticcheck $(BIN)/oapi-codegen: tools/go.mod tools/go.sum
	mkdir -p $(BIN)
	$(GO) -C tools build -o $(CURDIR)/$(BIN)/ tool
	@touch $(BIN)/sqlc $(BIN)/staticcheck $(BIN)/oapi-codegen
