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

.PHONY: help build completions install uninstall clean

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
