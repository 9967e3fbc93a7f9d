# Thin goals over `seatsmith`; every goal first makes what it needs (apt packages, venv).
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PROFILE ?= work
SEAT ?= demo
SOURCE ?= auto
DISK ?=
TO ?=
SECOND ?=
ARGS ?=

PYTHON ?= python3
VENV ?= .venv
SEATSMITH := $(VENV)/bin/seatsmith
export SOURCE

##@ Images
image: setup ## Build PROFILE's image into dist/PROFILE (SOURCE=auto|upstream|standin)
	@$(SEATSMITH) image $(PROFILE) --source $(SOURCE) $(ARGS)
lock: setup ## Renew PROFILE's lock
	@$(SEATSMITH) lock $(PROFILE) --source $(SOURCE) $(ARGS)
verify: setup ## Build PROFILE again under other conditions and compare bit by bit
	@$(SEATSMITH) verify $(PROFILE) --source $(SOURCE) $(ARGS)
check: setup ## Check all profiles and seats
	@$(SEATSMITH) check $(ARGS)

##@ Seats
seat: setup ## Write SEAT to an image file, from its images (built first where they are missing)
	@for profile in $$($(SEATSMITH) seat profiles $(SEAT)); do \
		test -e dist/$$profile/manifest.json || $(SEATSMITH) image $$profile --source $(SOURCE) || exit; done
	@$(SEATSMITH) seat write $(SEAT) $(ARGS)
boot-test: setup ## Boot SEAT (or a seat made up around PROFILE) in QEMU; report in dist/boot-tests/
ifeq ($(origin PROFILE),command line)
	@test -e dist/$(PROFILE)/manifest.json || $(SEATSMITH) image $(PROFILE) --source $(SOURCE)
	@$(SEATSMITH) boot-test --profile $(PROFILE) $(ARGS)
else
	@test -e dist/seats/$(SEAT)/$(SEAT).img || $(MAKE) seat SEAT=$(SEAT) ARGS=
	@$(SEATSMITH) boot-test $(SEAT) $(ARGS)
endif
isolation-test: setup ## Boot SEAT and try as root in each container what isolation prevents; dist/isolation-tests/
	@test -e dist/seats/$(SEAT)/$(SEAT).img || $(MAKE) seat SEAT=$(SEAT) ARGS=
	@$(SEATSMITH) isolation-test $(SEAT) $(ARGS)
run: setup ## Boot SEAT in QEMU for a person
	@$(SEATSMITH) run $(SEAT) $(ARGS)

installer: setup ## Make the stick that turns a bare PC into SEAT (images are built first where they are missing)
	@for profile in installer $$($(SEATSMITH) seat profiles $(SEAT)); do \
		test -e dist/$$profile/manifest.json || $(SEATSMITH) image $$profile --source $(SOURCE) || exit; done
	@$(SEATSMITH) installer build $(SEAT) $(ARGS)
provision: setup ## Show what would be done to turn DISK into SEAT; writes nothing
	@test -n "$(DISK)" || { echo "say which disk: make provision SEAT=$(SEAT) DISK=/dev/disk/by-id/…" >&2; exit 2; }
	@$(SEATSMITH) provision plan $(SEAT) --disk $(DISK) $(ARGS)
provision-test: setup ## Sweep power cuts and faults, print the tally; provision from nothing in QEMU
	@$(VENV)/bin/pytest tests/integration/provision -s -m "not registry" -k "power_cut or fault or error or replacements" $(ARGS)
	@for profile in installer $$($(SEATSMITH) seat profiles $(SEAT)); do \
		test -e dist/$$profile/manifest.json || $(SEATSMITH) image $$profile --source $(SOURCE) || exit; done
	@$(VENV)/bin/pytest -m live -s tests/boot/test_provision_live.py tests/boot/test_provision_powercut.py
	@$(SEATSMITH) installer try $(SEAT) --quick

##@ Releases
sign: setup ## Sign dist/PROFILE with SIGNING_KEY
	@$(SEATSMITH) sign dist/$(PROFILE) $(ARGS)
release: setup ## Sign dist/PROFILE with SIGNING_KEY as a release; SECOND has a second builder's checksums
	@$(SEATSMITH) release $(PROFILE) $(if $(SECOND),--second $(SECOND)) $(ARGS)
publish: setup ## Add the signed dist/PROFILE to the static directory TO
	@test -n "$(TO)" || { echo "say where to: make publish PROFILE=$(PROFILE) TO=/srv/seatsmith" >&2; exit 2; }
	@$(SEATSMITH) publish dist/$(PROFILE) --to $(TO) $(ARGS)
ci: setup ## Run the pipeline of ci/github/images.yml here, each job in a clean clone
	@$(SEATSMITH) ci local $(if $(PROFILES),--env PROFILES="$(PROFILES)") $(ARGS)

##@ This machine
doctor: setup ## Tell what this machine can do
	@$(SEATSMITH) doctor $(ARGS)

##@ Development
test: setup ## Run the linters and the whole test suite
	@ci/test $(ARGS)
test-long: setup ## Run the tests that take too long for the gate, and that need nothing else
	@$(VENV)/bin/pytest -m long $(ARGS)
test-registry: setup ## Test an OCI registry (docker-registry), S3 (moto), a token (SoftHSM2), sigstore and rsync, fetched first
	@$(VENV)/bin/pytest -m registry tests/integration $(ARGS)
lint: setup ## Run the linters alone
	@ci/lint
hooks: setup ## Lint before each commit, unit-test before each push
	@$(VENV)/bin/pre-commit install --hook-type pre-commit --hook-type pre-push
bench: setup ## Measure speed; prints a table
	@$(VENV)/bin/python -m tests.bench $(ARGS)
clean: ## Remove results and the venv (caches stay: rm -r ~/.cache/seatsmith)
	rm -rf dist build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

setup: $(VENV)/ready
$(VENV)/ready: requirements.lock pyproject.toml ci/setup
	@PYTHON=$(PYTHON) VENV=$(VENV) ci/setup

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: sign release publish ci image lock verify check seat boot-test isolation-test run doctor test test-long test-registry lint hooks bench clean setup help installer provision provision-test
