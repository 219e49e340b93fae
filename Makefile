# SPDX-License-Identifier: Apache-2.0
#
# On a machine that the bootstrap script does not know, install what it would and say `make ... BOOTSTRAP=true`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
BOOTSTRAP ?= scripts/bootstrap
# For each fuzz target.
SECONDS_EACH ?= 60
# Options for Benchmarks/run: --quick, --only PATTERN, --rounds N ...
BENCH ?=

# The program that the interoperability tests and the demo run.
export NBDECRYPT ?= $(CURDIR)/.build/release/nbdecrypt

# Asked for when it is needed, because bootstrap may install Swift after make has read this file.
WITH_SWIFT = PATH="$$(scripts/bootstrap --print-path):$$PATH"
# $(call swift_build,OPTIONS). Progress is one changing line on a terminal, but hundreds of lines in a log: there, only a
# failure is shown, without them. (With --quiet, some failures say nothing.)
ifdef MAKE_TERMOUT
swift_build = $(WITH_SWIFT) swift build $1
else
swift_build = mkdir -p .build; $(WITH_SWIFT) swift build $1 > .build/build.log 2>&1 || \
	{ grep -v '^\[[0-9]*/[0-9]*\] ' .build/build.log; exit 1; }
endif

# In qemu-img, which measures for two seconds before it makes a LUKS image, time is short: see the source.
CLOCK = .build/qemu-img-clock.so

RELEASE_FLAGS = -c release --static-swift-stdlib

SWIFT_SOURCES = $(wildcard Sources Tests Fuzz/Sources Benchmarks examples/embed/Sources Package.swift Fuzz/Package.swift examples/embed/Package.swift)
SHELL_SCRIPTS = $(filter-out scripts/stress scripts/stress-wakeups,$(wildcard scripts/* examples/*.sh findings/*.sh Tests/Fixtures/make-* .ci/run))

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 18

.PHONY: demo
demo: install-demo-packages release ## make an encrypted image, serve it, copy the plaintext out
	@$(WITH_SWIFT) scripts/demo

.PHONY: build-tests
build-tests: install-test-packages
	@echo "== build-tests: debug build of the program and its tests"
	@$(call swift_build,--build-tests)

$(CLOCK): Tests/InteropTests/Helpers/qemu_img_clock.c | build-tests
	@$(WITH_SWIFT) clang -Wall -Werror -O1 -shared -fPIC -o $@ $<

.PHONY: test
test: build-tests release $(CLOCK) ## run all tests but those of test-vm
	@echo "== test: all tests, against $(NBDECRYPT)"
	@scripts/test-bootstrap
	@$(WITH_SWIFT) LD_PRELOAD="$(CURDIR)/$(CLOCK)" swift test --skip-build --disable-xctest --skip VirtualMachine

.PHONY: test-vm
test-vm: build-tests release $(CLOCK) ## run the tests whose oracle is a Linux kernel in a virtual machine
	@echo "== test-vm: LUKS images against dm-crypt in a virtual machine (some minutes)"
	@$(WITH_SWIFT) LD_PRELOAD="$(CURDIR)/$(CLOCK)" swift test --skip-build --disable-xctest --filter VirtualMachine

.PHONY: check
check: SECONDS_EACH := 3
check: lint release build-beside stress fuzz ## lint, build, all tests, and a short run of every fuzz target: what CI does
	@echo "== check: everything passed"

# The tests wait for clients and disks half of their time: what comes behind them is built meanwhile, but not before the
# tests themselves are built, which is work for every core.
.PHONY: build-beside
build-beside: export NBDECRYPT_FAST_TESTS := 1
build-beside: build-tests
	@echo "== builds: for stress and fuzz, beside the tests"
	@( unset NBDECRYPT_FAST_TESTS; $(WITH_SWIFT) nice scripts/stress --build && $(WITH_SWIFT) nice scripts/fuzz --build ) > .build/beside.log 2>&1 & \
	builds=$$!; \
	$(MAKE) test test-vm || { kill $$builds 2> /dev/null; exit 1; }; \
	wait $$builds || { cat .build/beside.log; exit 1; }

.PHONY: build
build: install-build-packages ## debug build; Package.swift makes every warning an error
	@echo "== build: debug"
	@$(call swift_build,)

.PHONY: release
release: install-build-packages ## release build with the Swift runtime inside: .build/release/nbdecrypt
	@echo "== release: optimised build (some minutes the first time)"
	@$(call swift_build,$(RELEASE_FLAGS) --product nbdecrypt)

.PHONY: fuzz
fuzz: install-build-packages ## run every fuzz target for SECONDS_EACH seconds
	@echo "== fuzz: $(SECONDS_EACH) seconds for each target"
	@$(WITH_SWIFT) scripts/fuzz $(SECONDS_EACH)

.PHONY: stress
stress: install-test-packages release ## many clients at once, against a build with ThreadSanitizer and against fresh servers
	@echo "== stress: clients at once, watched by ThreadSanitizer; fresh servers beside busy processes"
	@$(WITH_SWIFT) scripts/stress 6
	@scripts/stress-wakeups --seconds 20

.PHONY: bench
bench: install-bench-packages release ## compare with qemu-nbd and nbdkit (BENCH=--quick for a short run); docs/benchmarks.md
	@echo "== bench: $(NBDECRYPT) against qemu-nbd and nbdkit"
	@Benchmarks/run $(BENCH)

.PHONY: format
format: install-build-packages ## rewrite the Swift sources in the project's format
	@$(WITH_SWIFT) swift format --in-place --parallel --recursive $(SWIFT_SOURCES)

.PHONY: lint
lint: install-test-packages ## check the format, the shell scripts and where unsafe code is
	@echo "== lint: format, shell scripts, unsafe code"
	@$(WITH_SWIFT) swift format lint --strict --parallel --recursive $(SWIFT_SOURCES)
	@shellcheck $(SHELL_SCRIPTS)
	@scripts/check-unsafe

.PHONY: install
install: ## install what `make release` built, the man page and the systemd units (PREFIX, DESTDIR)
	@test -x .build/release/nbdecrypt || { echo "Run make release first: there is no .build/release/nbdecrypt." >&2; exit 1; }
	install -D -m 755 .build/release/nbdecrypt "$(DESTDIR)$(PREFIX)/bin/nbdecrypt"
	install -D -m 644 docs/nbdecrypt.1 "$(DESTDIR)$(PREFIX)/share/man/man1/nbdecrypt.1"
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/lib/systemd/system" systemd/nbdecrypt@.socket systemd/nbdecrypt@.service
	sed -i 's|/usr/bin/nbdecrypt|$(PREFIX)/bin/nbdecrypt|' "$(DESTDIR)$(PREFIX)/lib/systemd/system/nbdecrypt@.service"

.PHONY: uninstall
uninstall: ## remove what `make install` installed
	rm -f "$(DESTDIR)$(PREFIX)/bin/nbdecrypt" "$(DESTDIR)$(PREFIX)/share/man/man1/nbdecrypt.1"
	rm -f "$(DESTDIR)$(PREFIX)"/lib/systemd/system/nbdecrypt@.{socket,service}

.PHONY: clean
clean: ## remove everything that was built
	rm -rf .build Fuzz/.build Benchmarks/*/.build examples/embed/.build

.PHONY: install-build-packages install-bench-packages install-demo-packages install-test-packages
install-build-packages:
	@$(BOOTSTRAP) build
install-bench-packages:
	@$(BOOTSTRAP) build bench
install-demo-packages:
	@$(BOOTSTRAP) build demo
install-test-packages:
	@$(BOOTSTRAP) build test vm
