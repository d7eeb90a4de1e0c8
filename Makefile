# Every command that a person or CI runs. `make` alone lists them.

DEST ?= target/rootfs
MACHINE := $(shell dpkg --print-architecture)
ARCHITECTURES ?= $(MACHINE)
IMAGE ?= target/image.tar

.PHONY: help setup setup-demo build test demo bench lint image rootfs

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## set up what tests start, as far as it is missing (Debian 12, root, Go)
	@tests/support/setup/all

setup-demo: ## the part of setup that takes seconds: all that demo needs (Debian 12, root)
	@tests/support/setup/packages

build: ## build the programs for trying things out
	cargo build --locked

test: setup ## run all tests, with real servers in namespaces of their own (root)
	cargo test --locked

demo: setup-demo ## show the whole story on real servers, in namespaces of their own (root)
	cargo build --locked --profile demo --bins --example demo
	cargo run --locked --profile demo --quiet --example demo

bench: setup ## measure check, get, put and reap, against git, skopeo and docker (root); see bench/*.rs for what can be set
	cargo bench --locked --quiet --profile demo --bench check --bench get --bench put --bench build --bench reap

lint: ## check format and lints
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings

image: setup ## build the resource type's image into target/image.tar, and push it to PUSH=registry/repository[:tag]
	@$(foreach other,$(filter-out $(MACHINE),$(ARCHITECTURES)),tests/support/setup/packages resource-image/packages.$(other) &&) true
	mkdir -p $(dir $(IMAGE))
	resource-image/build type=oci,dest=$(IMAGE),rewrite-timestamp=true $(ARCHITECTURES)
	@du --si $(IMAGE)
	@echo "digest sha256:$$(skopeo inspect --raw oci-archive:$(IMAGE) | sha256sum | cut -d ' ' -f 1)"
	$(if $(PUSH),skopeo --insecure-policy copy --all --preserve-digests $(if $(INSECURE),--dest-tls-verify=false) oci-archive:$(IMAGE) docker://$(PUSH))

rootfs: setup ## lay out what the image has in DEST (target/rootfs), with this machine's git, ssh and runc
	rm -rf $(DEST) && mkdir -p $(DEST)
	ROOT=/ resource-image/build type=local,dest=$(DEST) $(MACHINE)
