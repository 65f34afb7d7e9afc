# Everything needs Go and make; nothing else has to be installed.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
IMAGE ?= k8s-reloader/reloader:$(VERSION)
FUZZTIME ?= 30s
TIMEOUT ?= 60m
SOAK ?= 30m

BIN := bin
LINT := $(BIN)/golangci-lint
CHART_TOOLS := $(BIN)/helm-unittest $(BIN)/kubeconform
# Modules beside the root's that have tests of their own.
MODULES := $(shell find . -mindepth 2 -name go.mod -not -path './.ci/*' -not -path './.git/*' | while read -r mod; do \
	dir=$$(dirname "$$mod"); find "$$dir" -name '*_test.go' | grep -q . && echo "$$dir" || true; done)

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "; print "make TARGET"; print ""} \
		/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Start a cluster on this machine and show reloads on it
	go run ./e2e/demo $(if $(KEEP),--keep)

.PHONY: test
test: ## Run all tests, the end-to-end ones on the local cluster too
	@# Never from the cache: go does not see the programs and charts that the
	@# end-to-end tests run.
	@for dir in $(MODULES); do echo "# $$dir"; (cd "$$dir" && go test -race -count=1 -timeout $(TIMEOUT) ./...); done
	go test -race -count=1 -timeout $(TIMEOUT) ./...

.PHONY: check
check: fmt vet tidy lint chart ## Check everything that needs no run: what CI asks of a change first

.PHONY: chart
chart: $(CHART_TOOLS) ## Check the chart and the manifests made from it
	go run ./charts/check

.PHONY: manifests
manifests: ## Make the chart's README and the plain manifests from the chart
	go run ./charts/generate

.PHONY: build
build: ## Build bin/reloader
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN)/reloader ./cmd/reloader

.PHONY: cluster
cluster: ## Run the local cluster until Ctrl-C
	go run ./e2e/cluster/run

.PHONY: guarantee
guarantee: ## Kill, freeze and cut off the product as often as it takes
	RELOADER_ROUNDS=full go test -race -count=1 -timeout $(TIMEOUT) ./e2e/guarantee/...

.PHONY: soak
soak: ## Change, kill and restart at random for SOAK (30m), then look for lost changes
	RELOADER_SOAK=$(SOAK) go test -v -race -count=1 -timeout 0 -run Soak ./e2e/guarantee

.PHONY: bench
bench: ## Measure speed and memory on the local cluster
	go run ./e2e/bench --write docs/benchmarks.md

.PHONY: fuzz
fuzz: ## Fuzz each target for FUZZTIME (30s)
	@grep -rn --include='*_test.go' -oE '^func Fuzz[A-Za-z0-9_]+' . | sed -E 's|/[^/]+:[0-9]+:func | |' | \
	while read -r dir target; do \
		echo "# $$dir $$target"; \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$dir" </dev/null; \
	done

.PHONY: image
image: ## Build the container image, with docker, podman or buildah
	@for tool in docker podman buildah; do \
		if "$$tool" info >/dev/null 2>&1; then \
			set -x; exec "$$tool" build --build-arg VERSION="$(VERSION)" -t "$(IMAGE)" .; \
		fi; \
	done; \
	echo "make image: none of docker, podman and buildah works here; start or install one, or use the program itself (make build)" >&2; exit 1

.PHONY: clean
clean: ## Remove what was built here (the cluster's programs stay in their cache)
	rm -rf $(BIN)

# The parts of check.

.PHONY: fmt
fmt:
	@files=$$(git ls-files --cached --others --exclude-standard '*.go' | while read -r f; do [ ! -e "$$f" ] || echo "$$f"; done | xargs gofmt -l); \
	if [ -n "$$files" ]; then echo "not formatted, run gofmt -w on:" >&2; echo "$$files" >&2; exit 1; fi

.PHONY: vet
vet:
	go vet ./...

.PHONY: tidy
tidy:
	go mod tidy -diff

.PHONY: lint
lint: $(LINT)
	$(LINT) run ./...

# A module of its own, so that the linters' dependencies are none of the product's.
$(LINT): .ci/tools/go.mod .ci/tools/go.sum
	go build -modfile=.ci/tools/go.mod -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

# A module of their own again: they and the linters want other versions.
$(CHART_TOOLS): .ci/chart/go.mod .ci/chart/go.sum
	cd .ci/chart && CGO_ENABLED=0 go build -o $(CURDIR)/$(BIN)/ $$(go list tool)
