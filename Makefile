# Every target is one command you could type yourself.
.PHONY: all build demo test race lint fuzz bench bench-peers microbench measure ci

all: build test

# grpcnotrace leaves out pages that nobody serves, whose templates make the linker
# keep every method of every type: a fifth of the binary.
build: ## one static binary in bin/
	CGO_ENABLED=0 go build -trimpath -tags grpcnotrace -ldflags='-s -w' -o bin/everyhop ./cmd/everyhop

demo: ## three services, three sidecars, every hop verified
	go run ./cmd/everyhop demo

test: ## needs nothing but Go
	go test ./...

race:
	go test -race ./...

lint:
	gofmt -l . && go vet ./... && go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

fuzz: ## ten seconds of each fuzzer
	bash test/fuzz.sh 10s

bench bench-peers: ## beside nginx, HAProxy, Envoy and ghostunnel: a quiet machine, 20 minutes
	go run ./test/bench

microbench: ## the evaluator: ns and allocations for each decision, cost of compiling
	go test -run '^$$' -bench . -benchmem ./policy/...

measure: ## the numbers in the README: size, idle memory, time to the first request
	bash test/measure.sh

ci:
	bash .ci/run
