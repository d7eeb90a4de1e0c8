# Every command that a person or CI runs. `make` alone lists them.

DEST ?= target/rootfs

.PHONY: help setup setup-demo build test demo bench lint rootfs

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## set up what tests start, as far as it is missing (Debian 12, root, Go)
	@tests/support/setup/all

setup-demo: ## the part of setup that takes seconds: all that demo and rootfs need (Debian 12, root)
	@tests/support/setup/packages

build: ## build the programs for trying things out
	cargo build --locked

test: setup ## run all tests, with real servers in namespaces of their own (root)
	cargo test --locked

demo: setup-demo ## show the whole story on real servers, in namespaces of their own (root)
	cargo build --locked --profile demo --bins --example demo
	cargo run --locked --profile demo --quiet --example demo

bench: setup ## measure check and put against git and docker (root); see bench/*.rs for what can be set
	cargo bench --locked --quiet --profile demo --bench check --bench put

lint: ## check format and lints
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings

rootfs: setup-demo ## lay the released programs, with what they call, into DEST (target/rootfs)
	resource-image/lay-out $(DEST)
