package spi

import (
	"fmt"
	"strings"

	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/syntax"
)

// A life holds the values of all --life options.
type life struct {
	given      bool
	soft, hard klips.Limits
	seen       [2][5]bool
}

// lifeTypes are the dimensions, in the order of life.seen.
var lifeTypes = [5]string{"allocations", "bytes", "addtime", "usetime", "packets"}

// parse parses one list: items such as soft-bytes=1000, separated by commas or blanks.
func (l *life) parse(list string) error {
	l.given = true
	for i, item := range strings.Split(strings.ReplaceAll(list, " ", ","), ",") {
		if err := l.item(i+1, item); err != nil {
			return err
		}
	}
	return nil
}

// item parses item number n of a list. Errors do not show parts that may be keys.
func (l *life) item(n int, item string) error {
	if item == "" {
		return fmt.Errorf("item %d is empty; it is written like soft-bytes=1000", n)
	}
	severity, rest, dash := strings.Cut(item, "-")
	var limits *klips.Limits
	hard := 0
	switch severity {
	case "soft":
		limits = &l.soft
	case "hard":
		limits, hard = &l.hard, 1
	default:
		return fmt.Errorf("item %d: %s begins with neither soft- nor hard-", n, quote.Value(item))
	}
	name, value, equals := strings.Cut(rest, "=")
	kind := -1
	for i, t := range lifeTypes {
		if name == t {
			kind = i
		}
	}
	switch {
	case !dash || kind < 0:
		return fmt.Errorf("item %d: %s: after %s- comes one of %s", n, quote.Value(item), severity, strings.Join(lifeTypes[:], ", "))
	case !equals || value == "":
		return &syntax.Error{Kind: syntax.Empty, Msg: severity + "-" + name + ": there is no number after ="}
	case l.seen[hard][kind]:
		return fmt.Errorf("%s-%s is given twice", severity, name)
	}
	l.seen[hard][kind] = true
	// The allocations of PF_KEY have 32 bits, the others 64 (RFC 2367 section 2.3.2).
	most := ^uint64(0)
	if kind == 0 {
		most = 0xffffffff
	}
	v, err := syntax.ParseNumber(value, 0, most)
	if err != nil {
		return fmt.Errorf("%s-%s: %w", severity, name, err)
	}
	switch kind {
	case 0:
		limits.Allocations = uint32(v)
	case 1:
		limits.Bytes = v
	case 2:
		limits.AddTime = v
	case 3:
		limits.UseTime = v
	case 4:
		limits.Packets = v
	}
	return nil
}
