PREFIX      ?= /usr/local
sbindir     ?= $(PREFIX)/sbin
mandir      ?= $(PREFIX)/share/man
bashcompdir ?= $(PREFIX)/share/bash-completion/completions
zshcompdir  ?= $(PREFIX)/share/zsh/site-functions
fishcompdir ?= $(PREFIX)/share/fish/vendor_completions.d
GO          ?= go
# The version is that of the checkout; packagers may set another one.
VERSION     ?=
BIN         ?= bin

LDFLAGS = -s -w $(if $(VERSION),-X github.com/klips-go/ipsec/commands/version.override=$(VERSION))
PAGES   = $(wildcard manpages/*.5 manpages/*.8)
D       = $(DESTDIR)

# What the tests use besides Go; without one of these some tests skip.
PACKAGES = gcc iproute2 iputils-ping libc6-dev mandoc python3-cryptography python3-scapy qemu-system-x86 tcpdump tshark user-mode-linux
# Where a kernel for virtual machines is unpacked for the tests; it is not installed.
export IPSEC_TEST_KERNEL ?= $(CURDIR)/.cache/kernel

.PHONY: help build completions install uninstall clean demo packages test check bench bench-kernel soak fuzz

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/ipsec, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o $(BIN)/ipsec ./cmd/ipsec

completions: build ## write the completion scripts of bash, zsh and fish to bin/
	$(BIN)/ipsec completion bash > $(BIN)/ipsec.bash
	$(BIN)/ipsec completion zsh > $(BIN)/_ipsec
	$(BIN)/ipsec completion fish > $(BIN)/ipsec.fish

install: completions ## install program, links, pages and completions (DESTDIR=, PREFIX=)
	install -d $(D)$(sbindir) $(D)$(mandir)/man5 $(D)$(mandir)/man8 $(D)$(bashcompdir) $(D)$(zshcompdir) $(D)$(fishcompdir)
	install -m 755 $(BIN)/ipsec $(D)$(sbindir)/ipsec
	install -m 644 $(BIN)/ipsec.bash $(D)$(bashcompdir)/ipsec
	install -m 644 $(BIN)/_ipsec $(D)$(zshcompdir)/_ipsec
	install -m 644 $(BIN)/ipsec.fish $(D)$(fishcompdir)/ipsec.fish
	set -e; for name in $$($(BIN)/ipsec help --names); do \
		ln -sf ipsec $(D)$(sbindir)/ipsec_$$name; ln -sf ipsec $(D)$(bashcompdir)/ipsec_$$name; done
	set -e; for page in $(PAGES); do \
		install -m 644 $$page $(D)$(mandir)/man$${page##*.}/$${page##*/}; done

uninstall: ## remove what install put there (same DESTDIR= and PREFIX=)
	for dir in $(D)$(sbindir) $(D)$(bashcompdir); do for link in $$dir/ipsec_*; do \
		if [ "$$(readlink $$link)" = ipsec ]; then rm -f $$link; fi; done; done
	rm -f $(D)$(sbindir)/ipsec $(D)$(bashcompdir)/ipsec $(D)$(zshcompdir)/_ipsec $(D)$(fishcompdir)/ipsec.fish
	for page in $(PAGES); do rm -f $(D)$(mandir)/man$${page##*.}/$${page##*/}; done

clean: ## remove what build made
	rm -f $(BIN)/ipsec $(BIN)/ipsec.bash $(BIN)/_ipsec $(BIN)/ipsec.fish

demo: build ## show a tunnel at work, in namespaces of its own
	@$(GO) run ./testscripts/demo -ipsec $(BIN)/ipsec

packages: ## install what the tests use (only as root, on Debian)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		missing=$$(for p in $(PACKAGES); do \
			dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q ' installed$$' || echo $$p; done); \
		if [ -n "$$missing" ]; then \
			echo "installing for the tests:" $$missing; \
			export DEBIAN_FRONTEND=noninteractive; \
			{ apt-get -qq update && apt-get -qq install -y --no-install-recommends $$missing; } >/dev/null </dev/null || \
				echo "apt-get failed: some tests will be skipped" >&2; \
		fi; \
		if [ -z "$$(ls $(IPSEC_TEST_KERNEL)/boot/vmlinuz-* 2>/dev/null)" ]; then \
			echo "fetching a kernel for the tests"; \
			dir=$$(mktemp -d) && chmod 755 $$dir && ( cd $$dir && \
				{ apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 || apt-get -qq update; } && \
				image=$$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1) && \
				apt-get -qq download $$image && dpkg-deb -x $$image*.deb image && rm -f *.deb && \
				mkdir -p $(IPSEC_TEST_KERNEL) && cp -r image/boot image/lib $(IPSEC_TEST_KERNEL) ) >/dev/null 2>&1 || \
				echo "no kernel could be fetched: some tests will be skipped" >&2; \
			rm -rf $$dir; \
		fi; \
	fi

test: packages ## run all tests; REQUIRE=root,tun,tshark,scapy,uml,qemu forbids skips
	$(GO) test $(TESTFLAGS) ./...

check: ## format, vet, staticcheck, generated files, manual pages
	@bad=$$(gofmt -l .); if [ -n "$$bad" ]; then echo "not in gofmt's form:" $$bad >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@sums() { sha256sum $(PAGES) $$(grep -rl --include='*.go' '^// Code generated .* DO NOT EDIT' .); }; \
	before=$$(sums) && $(GO) generate ./... && \
	if [ "$$before" != "$$(sums)" ]; then echo "go generate ./... changes files: commit what it makes" >&2; exit 1; fi
	@if command -v mandoc >/dev/null; then mandoc -T lint -W warning $(PAGES); fi

bench: build ## measure throughput, look-ups, SAs and start-up (as root)
	@$(GO) run ./testscripts/bench -ipsec $(BIN)/ipsec

bench-kernel: packages ## measure a file of commands against ip -batch, in a guest
	$(GO) test ./testscripts -run '^$$' -bench DeviceKernel -benchtime 1x -v

soak: build ## strain the stack for minutes while keys change (as root; SOAKFLAGS=-time=10m)
	@$(GO) run ./testscripts/soak -ipsec $(BIN)/ipsec $(SOAKFLAGS)

fuzz: ## look for inputs that break something; FUZZTIME=10s is for each target
	@$(GO) run ./testscripts/fuzz -go "$(GO)" -time $(or $(FUZZTIME),10s) $(FUZZFLAGS)
