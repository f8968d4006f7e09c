# The project's commands. `make` alone lists them.
#
# CARGO_TARGET_DIR is respected; every target installs what it needs (apt-get as root or through sudo, crates.io, PyPI).

.DEFAULT_GOAL := help
SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
ARGS ?=

.PHONY: help
help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 14

.PHONY: run
run: ## build, start the whole platform in ./data, prove it, keep serving; ARGS=--once exits after the proof
	@scripts/run.sh $(ARGS)

.PHONY: check
check: ## static checks: format, clippy, bans, licences, sources, spelling, tidy
	@scripts/check.sh

.PHONY: test
test: ## every test in its short form, fuzz targets and sanitizer included
	@scripts/test.sh

.PHONY: soak
soak: ## the long forms: hundreds of kills, 20 GB, 1 M objects; takes hours and some 60 GB of disk
	@scripts/soak.sh

.PHONY: bench
bench: ## measure codec, AEAD, hash and the whole platform; prints the table of docs/benchmarks.md
	@scripts/bench.sh $(ARGS)

.PHONY: fuzz-smoke
fuzz-smoke: ## build every fuzz target and run each for a few seconds; FUZZ_SECONDS=60 for longer
	@fuzz/smoke.sh

.PHONY: asan
asan: ## the erasure crate's tests under AddressSanitizer
	@crates/erasure/asan.sh

.PHONY: advisories
advisories: ## known vulnerabilities in dependencies (needs the network: fetches the RustSec database)
	@scripts/tool.sh cargo-deny
	@PATH="$${CARGO_HOME:-$$HOME/.cargo}/bin:$$PATH" cargo deny --locked check advisories
