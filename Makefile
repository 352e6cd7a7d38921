PREFIX      ?= /usr/local
sbindir     ?= $(PREFIX)/sbin
mandir      ?= $(PREFIX)/share/man
bashcompdir ?= $(PREFIX)/share/bash-completion/completions
zshcompdir  ?= $(PREFIX)/share/zsh/site-functions
# fish reads /usr/local only if XDG_DATA_DIRS is set, but always reads /etc.
fishcompdir ?= $(if $(filter /usr/local,$(PREFIX)),/etc/fish/completions,$(PREFIX)/share/fish/vendor_completions.d)
unitdir     ?= $(PREFIX)/lib/systemd/system
sysusersdir ?= $(PREFIX)/lib/sysusers.d
docdir      ?= $(PREFIX)/share/doc/ipsec-klips
GO          ?= go
# The version is that of the checkout; packagers may set another one.
VERSION     ?=
BIN         ?= bin
# The same program for this machine, if BIN has one for another: it lists its commands.
RUN         ?= $(BIN)/ipsec

# All builds have the same flags, so that nothing is compiled twice. If git refuses to
# read the checkout, because it belongs to another user, go build would fail.
export CGO_ENABLED ?= 0
export GOFLAGS     += -trimpath $(shell git rev-parse HEAD >/dev/null 2>&1 || echo -buildvcs=false)
LDFLAGS = -s -w $(if $(VERSION),-X github.com/klips-go/ipsec/commands/internal/buildinfo.override=$(VERSION))
# The packages with goroutines, or with data that is read while it is written.
RACE    = ./klips/user/... ./klips/netlock ./klips/xfrm/nlxfrm ./commands/...
# The scripts about packets in clear and about replay, on each stack.
CLOSED  = (closed|default-route|guarded|opens|hand-over|marks|inbound-clear|transport-policy)
# For the metrics: alerts and a dashboard.
WATCH   = prometheus/ipsec.rules.yml grafana/ipsec.json
UNITS   = ipsec.service ipsec-connections.service ipsec@.service
PAGES   = $(wildcard manpages/*.5 manpages/*.7 manpages/*.8)
D       = $(DESTDIR)

# The folder of the kernel that the tests boot in virtual machines; it is not installed.
export IPSEC_TEST_KERNEL ?= $(CURDIR)/.cache/kernel

.PHONY: help build install uninstall pkg test-pkg clean demo test-deps test check race fuzz soak faults kernels bench bench-kernel

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/ipsec, static
	$(GO) build -ldflags "$(LDFLAGS)" -o $(BIN)/ipsec ./cmd/ipsec

install: ## install what was built, with links, pages, completions, units and examples (DESTDIR=, PREFIX=)
	@test -x $(BIN)/ipsec || { echo "install: there is no $(BIN)/ipsec; run make build first" >&2; exit 1; }
	install -d $(D)$(sbindir) $(D)$(mandir)/man5 $(D)$(mandir)/man7 $(D)$(mandir)/man8 $(D)$(bashcompdir) $(D)$(zshcompdir) $(D)$(fishcompdir) $(D)$(unitdir) $(D)$(sysusersdir)
	install -m 755 $(BIN)/ipsec $(D)$(sbindir)/ipsec
	$(RUN) completion bash > $(D)$(bashcompdir)/ipsec
	$(RUN) completion zsh > $(D)$(zshcompdir)/_ipsec
	$(RUN) completion fish > $(D)$(fishcompdir)/ipsec.fish
	chmod 644 $(D)$(bashcompdir)/ipsec $(D)$(zshcompdir)/_ipsec $(D)$(fishcompdir)/ipsec.fish
	set -e; for name in $$($(RUN) help --names); do \
		ln -sf ipsec $(D)$(sbindir)/ipsec_$$name; \
		ln -sf ipsec $(D)$(bashcompdir)/ipsec_$$name; \
		ln -sf ipsec.fish $(D)$(fishcompdir)/ipsec_$$name.fish; done
	set -e; for page in $(PAGES); do \
		install -m 644 $$page $(D)$(mandir)/man$${page##*.}/$${page##*/}; done
	set -e; for unit in $(UNITS); do \
		sed 's|@sbindir@|$(sbindir)|g' packages/systemd/$$unit.in > $(D)$(unitdir)/$$unit; \
		chmod 644 $(D)$(unitdir)/$$unit; done
	install -m 644 packages/systemd/ipsec.sysusers $(D)$(sysusersdir)/ipsec-klips.conf
	set -e; for file in $(WATCH); do install -D -m 644 packages/$$file $(D)$(docdir)/examples/$$file; done

uninstall: ## remove what install put there (same DESTDIR= and PREFIX=)
	for link in $(D)$(sbindir)/ipsec_* $(D)$(bashcompdir)/ipsec_* $(D)$(fishcompdir)/ipsec_*.fish; do \
		case $$(readlink $$link) in ipsec|ipsec.fish) rm -f $$link;; esac; done
	rm -f $(D)$(sbindir)/ipsec $(D)$(bashcompdir)/ipsec $(D)$(zshcompdir)/_ipsec $(D)$(fishcompdir)/ipsec.fish
	for page in $(PAGES); do rm -f $(D)$(mandir)/man$${page##*.}/$${page##*/}; done
	for unit in $(UNITS); do rm -f $(D)$(unitdir)/$$unit; done
	rm -f $(D)$(sysusersdir)/ipsec-klips.conf
	for file in $(WATCH); do rm -f $(D)$(docdir)/examples/$$file; done

pkg: build ## make packages in dist/: .deb, .rpm, .apk, .tar.gz, for amd64 and arm64
	@BIN="$(BIN)" GO="$(GO)" VERSION="$(VERSION)" packages/build

test-pkg: pkg ## test the packages: contents, life on a Debian, sums; REQUIRE= as with test
	IPSEC_TEST_PACKAGES="$(CURDIR)/dist" GO="$(GO)" BIN="$(BIN)" VERSION="$(VERSION)" $(GO) test -count 1 $(TESTFLAGS) ./testscripts/packages

clean: ## remove what build and pkg made
	rm -f $(BIN)/ipsec dist/ipsec-klips[-_]*

demo: build ## show a tunnel at work, in namespaces of its own
	@$(GO) run ./testscripts/demo -ipsec $(BIN)/ipsec

test-deps: ## install what the tests use besides Go (only as root, on Debian)
	@testscripts/deps

test: $(if $(filter no,$(DEPS)),,test-deps) ## run all tests; DEPS=no installs nothing for them, REQUIRE=root,tun,… forbids skips
	$(GO) test -timeout 60m $(TESTFLAGS) ./...

check: ## format, vet, staticcheck, generated files, manual pages
	@bad=$$(gofmt -l .); if [ -n "$$bad" ]; then echo "not in gofmt's form:" $$bad >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@sums() { sha256sum $(PAGES) $$(grep -rl --include='*.go' '^// Code generated .* DO NOT EDIT' .); }; \
	before=$$(sums) && $(GO) generate ./... && \
	if [ "$$before" != "$$(sums)" ]; then echo "go generate ./... changes files: commit what it makes" >&2; exit 1; fi
	@if command -v mandoc >/dev/null; then mandoc -T lint -W warning $(PAGES); fi

race: ## look for data races: OPS= random operations on the engine from SEED=, then the packages that share data
	CGO_ENABLED=1 $(GO) test -race -count 1 -timeout 0 -v -run '^TestRandomOperations$$' ./klips/user/engine
	REQUIRE= CGO_ENABLED=1 $(GO) test -race -short -timeout 60m -skip '^TestRandomOperations$$' $(RACE)

fuzz: ## look for inputs that break something; FUZZTIME=10s is for each target
	@$(GO) run ./testscripts/fuzz -go "$(GO)" -time $(or $(FUZZTIME),10s) $(FUZZFLAGS)

soak: build ## strain the stack for minutes while keys change (as root; SOAKFLAGS=-time=10m)
	@$(GO) run ./testscripts/soak -ipsec $(BIN)/ipsec $(SOAKFLAGS)

faults: ## let things fail: daemon killed or frozen, no room, no rights, no devices, the kernel's errors (as root)
	$(GO) test -count 1 -v -skip '^$$' -run '^TestScripts$$/^faults$$' ./testscripts
	$(GO) test -count 1 -v -run '^TestScripts$$/^(manual|tncfg|setup|tunnel)$$/^$(CLOSED)$$' ./testscripts
	$(GO) test -count 1 -v -skip '^$$' -run '^TestDeviceKernel$$' ./testscripts -guest '^TestInteropScripts$$/^/^($(CLOSED)|apply|rekey|subnets|everything|across|hundred-applies)$$' -test.v
	$(GO) test -count 1 ./klips/classic ./klips/xfrm/...

kernels: test-deps ## run the longest tests under kernels in virtual machines (as root); NEWER=no leaves the newer kernel out
	$(GO) test -count 1 -v -timeout 60m -run '^Test(Device$(if $(filter no,$(NEWER)),,|Newer))?Kernel$$' ./testscripts -longest

bench: build ## measure packets beside wireguard-go, look-ups, SAs, listings, start-up (as root; BENCHFLAGS=-json=FILE)
	@$(GO) run ./testscripts/bench -ipsec $(BIN)/ipsec $(BENCHFLAGS)

bench-kernel: test-deps ## measure a file of commands against ip -batch, in a guest
	$(GO) test ./testscripts -run '^$$' -bench DeviceKernel -benchtime 1x -v
