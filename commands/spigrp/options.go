package spigrp

import (
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/getopt"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// options returns the option table. It serves usage, completion and page. The parser
// does not use it, because the order of the arguments is fixed.
func options() []getopt.Option {
	return []getopt.Option{
		{Name: "debug", Help: "print each step on standard error; only as the first argument"},
		{Name: "label", Arg: "LABEL", Help: "put LABEL into the messages of this call; only first or after --debug"},
		{Name: "said", Help: "the SAs follow as one word each: tun0x113@192.0.2.1", Values: []string{"<said>"}},
		cli.JSONOption("the groups"),
		{Name: "help", Help: "print this text"},
		{Name: "version", Help: "print the version"},
	}
}

// A request is a parsed command line: without SAs a listing, with one SA its group is
// taken apart, more SAs are grouped.
type request struct {
	cli.Common
	cli.Plain
	ids []klips.SAID
}

// words is the number of arguments that name one SA without --said.
const words = 4

// parse reads a command line. The common options of the request are valid also with an
// error.
func parse(env *cli.Env, args []string) (*request, error) {
	r := &request{}
	if len(args) > 0 && args[0] == "--debug" {
		r.Debug, args = true, args[1:]
	}
	if len(args) > 0 && args[0] == "--label" {
		if len(args) == 1 {
			return r, cli.Usagef("--label needs a value")
		}
		r.Label, args = args[1], args[2:]
	}
	if len(args) == 0 {
		return r, nil
	}
	var err error
	switch args[0] {
	case "--help", "-h", "-?":
		r.Help = true
	case "--version":
		r.Version = true
	case "--json":
		if r.JSON = true; len(args) > 1 {
			err = cli.Usagef("--json is for the list of groups; nothing follows it, not %s", quote.Word(args[1], 2))
		}
	case "--said":
		r.ids, err = parseSAIDs(env, args[1:])
	default:
		r.ids, err = parseWords(env, args)
	}
	return r, err
}

func parseSAIDs(env *cli.Env, args []string) ([]klips.SAID, error) {
	switch {
	case len(args) == 0:
		return nil, cli.Usagef("--said needs one to %d SAs, written like tun0x113@192.0.2.1", klips.MaxGroup)
	}
	for i, text := range args {
		// Check this first: four words of the other form would count as too many SAs.
		if text == "inet" || text == "inet6" || strings.HasPrefix(text, "--") {
			return nil, cli.Usagef("%s at the place of SA %d: after --said each SA is one word, written like tun0x113@192.0.2.1", quote.Option(text, false, quote.Nowhere), i+1)
		}
	}
	if len(args) > klips.MaxGroup {
		return nil, cli.Usagef("%d SAs; a group has at most %d", len(args), klips.MaxGroup)
	}
	ids := make([]klips.SAID, len(args))
	for i, text := range args {
		id, err := syntax.ParseSAID(text, env.Resolver)
		if err != nil {
			return nil, cli.Usagef("%s: %w", quote.Value(text), err)
		}
		ids[i] = id
	}
	return ids, nil
}

// parseWords parses SAs of four words each: a family, an address, an SPI and a
// protocol.
func parseWords(env *cli.Env, args []string) ([]klips.SAID, error) {
	if len(args[0]) > 1 && args[0][0] == '-' {
		switch name := args[0]; name {
		case "--debug", "--label":
			return nil, cli.Usagef("%s is at the wrong place; --debug comes first, then --label", name)
		default:
			return nil, cli.Usagef("unknown option %s; here are --debug, --label, --said, --json, --help and --version, in full and in this order", quote.Option(name, false, quote.Nowhere))
		}
	}
	for _, a := range args {
		if a == "--said" {
			return nil, cli.Usagef("--said after %s: give all SAs as one word each after --said, or all as %d arguments", quote.Word(args[0], 1), words)
		}
	}
	if len(args)%words != 0 || len(args) > words*klips.MaxGroup {
		if len(args) > words*klips.MaxGroup {
			return nil, cli.Usagef("the number of arguments is %d; a group has at most %d SAs of %d arguments each", len(args), klips.MaxGroup, words)
		}
		return nil, cli.Usagef("the number of arguments is %d; each SA has %d: inet or inet6, address, SPI, protocol (or use --said)", len(args), words)
	}
	ids := make([]klips.SAID, 0, klips.MaxGroup)
	for n := 1; len(args) > 0; n++ {
		id, what, text, err := parseOne(env, args[:words])
		if err != nil {
			return nil, cli.Usagef("SA %s: %s %s: %w", strconv.Itoa(n), what, quote.Value(text), err)
		}
		ids, args = append(ids, id), args[words:]
	}
	return ids, nil
}

// parseOne parses one SA. With an error, what and text are the part at fault.
func parseOne(env *cli.Env, args []string) (id klips.SAID, what, text string, err error) {
	family, err := syntax.ParseFamily(args[0])
	if err != nil {
		return id, "address family", args[0], err
	}
	if id.Dst, err = syntax.ParseAddr(args[1], family, env.Resolver); err != nil {
		return id, "address", args[1], err
	}
	spi, err := syntax.ParseNumber(args[2], 0, 0xffffffff)
	if err != nil {
		return id, "SPI", args[2], err
	}
	id.SPI = klips.SPI(spi)
	if id.Proto, err = syntax.ParseProto(args[3]); err != nil {
		return id, "protocol", args[3], err
	}
	return id, "", "", nil
}
