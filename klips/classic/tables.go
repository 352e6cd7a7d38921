package classic

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
	"github.com/klips-go/ipsec/klips/procfs"
)

// Table returns a table as the kernel shows it, such as "ipsec_spi".
func (s *Stack) Table(_ context.Context, name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(s.machine.ProcNet, name))
	if err != nil {
		return nil, &klips.OpError{Op: "list", Object: filepath.Join(s.machine.ProcNet, name), Err: err}
	}
	return b, nil
}

// parse reads a table and returns the lines that can be parsed. Other lines are not an
// error, see [Stack.Unread].
func parse[T any](s *Stack, name string, parse func(io.Reader) (T, error)) (t T, err error) {
	b, err := s.Table(context.Background(), name)
	if err != nil {
		return t, err
	}
	t, err = parse(bytes.NewReader(b))
	var unread *procfs.UnreadError
	if err != nil && !errors.As(err, &unread) {
		return t, &klips.OpError{Op: "list", Object: filepath.Join(s.machine.ProcNet, name), Err: err}
	}
	return t, nil
}

// Unread returns the lines of tables that cannot be parsed, of all tables if none is
// named.
func (s *Stack) Unread(ctx context.Context, tables ...string) ([]klips.UnreadLine, error) {
	var lines []klips.UnreadLine
	for _, t := range []struct {
		name  string
		parse func(io.Reader) error
	}{
		{"ipsec_spi", only(procfs.ParseSPI)},
		{"ipsec_spigrp", only(procfs.ParseSPIGrp)},
		{"ipsec_eroute", only(procfs.ParseEroute)},
		{"ipsec_tncfg", only(procfs.ParseTncfg)},
		{"ipsec_klipsdebug", only(procfs.ParseKlipsdebug)},
	} {
		if len(tables) > 0 && !slices.Contains(tables, t.name) {
			continue
		}
		b, err := s.Table(ctx, t.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a missing table has no lines
		}
		if err != nil {
			return nil, err
		}
		var unread *procfs.UnreadError
		if errors.As(t.parse(bytes.NewReader(b)), &unread) {
			lines = append(lines, unread.Lines...)
		}
	}
	return lines, nil
}

// only is a parser without its records.
func only[T any](parse func(io.Reader) (T, error)) func(io.Reader) error {
	return func(r io.Reader) error {
		_, err := parse(r)
		return err
	}
}

// groups returns the lines of ipsec_spigrp.
func (s *Stack) groups() ([][]klips.SAID, error) {
	return parse(s, "ipsec_spigrp", procfs.ParseSPIGrp)
}

// Version returns the line of ipsec_version.
func (s *Stack) Version(context.Context) (string, error) {
	return parse(s, "ipsec_version", procfs.ParseVersion)
}

// SAs lists the SAs. For an unused SA the table shows the kernel's clock as time of
// use, not an age; it is left out.
func (s *Stack) SAs(context.Context) ([]klips.SA, error) {
	sas, err := parse(s, "ipsec_spi", procfs.ParseSPI)
	if err != nil {
		return nil, err
	}
	groups, err := s.groups()
	if err != nil {
		return nil, err
	}
	procfs.JoinGroups(sas, groups)
	for i := range sas {
		if !sas[i].Used {
			sas[i].Life.UseTime.SetRaw(0)
		}
	}
	return sas, nil
}

// Eroutes lists the eroutes. The SAs show where an IPv6 destination ends and a protocol
// begins.
func (s *Stack) Eroutes(context.Context) ([]klips.Eroute, error) {
	sas := sync.OnceValue(func() map[klips.SAID]bool {
		groups, _ := s.groups() // each SA has a line
		sas := make(map[klips.SAID]bool, len(groups))
		for _, g := range groups {
			sas[g[0]] = true
		}
		return sas
	})
	return parse(s, "ipsec_eroute", procfs.ParseErouteKnowing(func(id klips.SAID) bool { return sas()[id] }))
}

// Devices lists the virtual devices. Their counters are those of the kernel's net
// devices; if these cannot be read they stay 0.
func (s *Stack) Devices(context.Context) ([]klips.Device, error) {
	devices, err := parse(s, "ipsec_tncfg", procfs.ParseTncfg)
	if err != nil {
		return nil, err
	}
	if stats, err := parse(s, "dev", procfs.ParseNetDev); err == nil {
		for i := range devices {
			devices[i].Stats = stats[devices[i].Name]
		}
	}
	return devices, nil
}

// Debug returns the debug masks.
func (s *Stack) Debug(context.Context) (klips.Debug, error) {
	return parse(s, "ipsec_klipsdebug", procfs.ParseKlipsdebug)
}

// GetSA returns one SA: its counts from PF_KEY (GET), the rest from the tables if they
// can be read. Times are from the tables too: the message has values of the kernel's
// clock, which are used only if the tables do not have the SA. For an SA that this
// stack has just made, the answer to ADD is enough.
func (s *Stack) GetSA(ctx context.Context, id klips.SAID) (klips.SA, error) {
	s.mu.Lock()
	r := s.added
	if s.owner != id {
		r = nil
	}
	s.mu.Unlock()
	if r == nil {
		var err error
		if r, err = s.call(ctx, "get SA", id.String(), pfkey.GetSA(id)); err != nil {
			return klips.SA{}, err
		}
	}
	sa, listed := klips.SA{ID: id}, false
	if sas, err := s.SAs(ctx); err == nil {
		for i := range sas {
			if sas[i].ID == id {
				sa, listed = sas[i], true
			}
		}
	}
	if r.SARef != nil {
		sa.Ref, sa.RefHim = r.SARef.Me, r.SARef.Him
	}
	if l := r.LifeCurrent; l != nil {
		sa.Life.Allocations.Count = uint64(l.Allocations)
		sa.Life.Bytes.SetRaw(l.Bytes)
		if !listed {
			sa.Life.AddTime.Count, sa.Life.UseTime.Count = l.AddTime, l.UseTime
		}
	}
	return sa, nil
}

// Registered reports whether pf_key_registered has a line.
func (s *Stack) Registered(ctx context.Context) (bool, error) {
	b, err := s.Table(ctx, "pf_key_registered")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	// Headings do not begin with a blank.
	return bytes.HasPrefix(b, []byte(" ")) || bytes.Contains(b, []byte("\n ")), err
}
