# The contributor's surface; `make help` lists it. A machine needs Go, gcc (for the race detector), make and git; the hosts
# of demo, e2e and bench are Docker containers, and Docker itself is installed by bin/lab when it runs as root on Debian
# or Ubuntu.
.DEFAULT_GOAL := help
.NOTPARALLEL:

GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 10s

LDFLAGS  := -s -w -X github.com/myadm/myadm/cmd.Version=$(VERSION)
# Modules of their own with Go code of ours; ./... does not reach them.
MODULES  := e2e/components/cni e2e/components/flannel
# The architectures that courier, the program that fetches artifacts on hosts, is built for.
COURIERS := amd64 arm64
# What the end-to-end tests run besides our binaries, COMMAND:PACKAGE. What the hosts take is for bin/lab to see to.
TOOLS    := ssh:openssh-client openssl:openssl

.PHONY: build
build: courier ## bin/myadm with its couriers, and bin/lab, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/myadm ./cmd/myadm
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/lab ./e2e/lab/cmd/lab

# Embedded into bin/myadm. The same sources give the same bytes, whatever the commit.
.PHONY: courier
courier: ## the program that fetches artifacts on hosts, for bin/myadm to embed
	@set -e; for arch in $(COURIERS); do file=courier/programs/courier-$$arch; \
		echo "$(GO) build $$file.gz"; \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(GO) build -trimpath -buildvcs=false -ldflags '-s -w' -o $$file ./courier/cmd/courier; \
		gzip -9nf $$file; \
	done

# Most of a first run is compilers, which live for a moment only: with memory to waste they are faster.
unit lint: export GOGC = 400

.PHONY: unit
unit: ## vet, and all tests that need no host, with the race detector
	$(GO) vet -tags e2e ./...
	CGO_ENABLED=1 $(GO) test -race ./...
	@set -e; for module in $(MODULES); do echo "$(GO) test -C $$module ./..."; $(GO) test -C $$module ./...; done

.PHONY: lint
lint: bin/golangci-lint ## the rules of .golangci.yml, the layers among them
	bin/golangci-lint run

# From the Go module proxy, at the version in tools/go.mod; a minute, once.
bin/golangci-lint: tools/go.mod tools/go.sum
	$(GO) build -C tools -trimpath -ldflags '-s -w' -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

.PHONY: e2e
e2e: build ## the built binary against real hosts, an hour; takes the whole machine
	@missing=$$(for tool in $(TOOLS); do command -v $${tool%:*} >/dev/null || echo $${tool#*:}; done); [ -z "$$missing" ] || \
		{ apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $$missing; }
	GO='$(GO)' e2e/test.sh -timeout 110m

.PHONY: test
test: ## unit, lint and e2e, as CI does; stops at the first that fails and tells what ran
	@report=; for part in unit lint e2e; do \
		began=$$(date +%s); \
		if $(MAKE) --no-print-directory $$part; then result=passed; else result=FAILED; fi; \
		report="$$report$$(printf '\n  %-5s %s, %d s' $$part $$result $$(($$(date +%s) - began)))"; \
		[ $$result = passed ] || break; \
	done; \
	echo "make test:$$report"; [ $$result = passed ]

# RUNS that a fault strikes; SEED chooses what, when and where.
RUNS ?= 78
SEED ?= 0

.PHONY: kill-matrix
kill-matrix: build ## SIGKILLs, lost connections and power cuts during apply: RUNS (78) runs in an hour and a half, from SEED (0)
	$(GO) test -tags e2e -count=1 -v -timeout 6h -run '^TestKillMatrix$$' ./e2e -args -kill-runs=$(RUNS) -kill-seed=$(SEED)

.PHONY: demo
demo: build ## a cluster of three hosts on this machine
	e2e/demo.sh

.PHONY: bench
bench: build ## the times of myadm and of kubeadm on the same hosts
	$(GO) run ./e2e/bench

.PHONY: fuzz
fuzz: ## every fuzz test for FUZZTIME (10s)
	@set -e; grep -ro --include='*_test.go' --exclude-dir=components '^func Fuzz[A-Za-z0-9_]*' . | sort | \
	sed 's|/[^/]*:func | |' | while read -r dir name; do \
		$(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) $$dir; \
	done

.PHONY: clean
clean: ## remove the demo's hosts and bin/; what lab has cached stays
	@if [ -x bin/lab ] && [ -d .lab/demo ]; then bin/lab down --dir .lab/demo; fi
	rm -rf bin .lab/demo courier/programs/*.gz

.PHONY: help
help:
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 8
