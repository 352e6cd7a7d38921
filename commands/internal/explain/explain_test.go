package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user"
)

func TestError(t *testing.T) {
	tests := []struct {
		change klips.Change
		object string
		err    error
		want   string
	}{
		{klips.Group{}, "tun0x113@10.0.0.2", &klips.OpError{Op: "group", Object: "esp0x115@10.0.0.2", Err: syscall.ENOENT},
			"esp0x115@10.0.0.2: no such SA; make it first with ipsec spi (ipsec spi lists those that exist)"},
		{klips.Group{}, "tun0x113@10.0.0.2", syscall.EEXIST,
			"tun0x113@10.0.0.2: already in a group; take its group apart first with ipsec spigrp and this SA alone (ipsec spigrp lists the groups)"},
		{klips.AddSA{}, "ah0x100@10.0.0.2", &klips.OpError{Err: syscall.EPROTONOSUPPORT, Detail: "Requested type not found"},
			"ah0x100@10.0.0.2: the stack does not know the protocol or an algorithm; on a stock kernel load its module (esp4, ah4, ipcomp, or esp6, ah6, ipcomp6) (the stack says: Requested type not found)"},
		{klips.Attach{}, "ipsec0", syscall.ENOTTY, "ipsec0: not attached: the device does not know the request; is it a virtual device of KLIPS? (ipsec tncfg lists them)"},
		{klips.Attach{}, "ipsec0", syscall.EXFULL, "ipsec0: not attached: the system refuses it with EXFULL (exchange full); its log (dmesg) may say why"},
		{klips.AddSA{}, "", &klips.OpError{Object: "comp0x10000@10.0.0.2", Err: syscall.EINVAL, Fault: klips.FaultCPI},
			"comp0x10000@10.0.0.2: not made: the SPI of a comp SA is a CPI, which has 16 bits (RFC 3173): take one of 0x100 to 0xffff"},
		{klips.Attach{}, "mast0", &klips.OpError{Err: syscall.ENODEV, Fault: klips.FaultMast},
			"mast0: not attached: this stack has no mast devices, only ipsec0 to ipsec63; stack klips may have them (--stack)"},
		{klips.AddSA{}, "esp0x101@10.0.0.2", &klips.OpError{Err: syscall.EKEYREJECTED, Fault: klips.FaultKeyUsed, Other: klips.SAID{Dst: netip.MustParseAddr("10.0.0.3"), SPI: 0x100, Proto: klips.ProtoESP}},
			"esp0x101@10.0.0.2: not made: esp0x100@10.0.0.3 sends with this key and salt; two that send with one key can use a nonce twice, which reveals packets and lets others forge them (RFC 4106 section 2): make another key with ipsec ranbits, or in a laboratory allow it with ipsec spi --insecure-reuse"},
		{klips.AddSA{}, "esp0x101@10.0.0.2", &klips.OpError{Err: syscall.EKEYREJECTED, Fault: klips.FaultKeyUsed},
			"esp0x101@10.0.0.2: not made: another SA sends with this key and salt; two that send with one key can use a nonce twice, which reveals packets and lets others forge them (RFC 4106 section 2): make another key with ipsec ranbits, or in a laboratory allow it with ipsec spi --insecure-reuse"},
		{klips.ClearSAs{}, "", syscall.EPERM, "the SAs were not removed: not permitted; run it as root (CAP_NET_ADMIN is needed)"},
		{klips.Group{}, "", &klips.OpError{Object: "esp0x100@10.0.0.2", Err: syscall.EBUSY, Reason: "a reason", Left: "a and b stay linked"},
			"esp0x100@10.0.0.2: not grouped: a reason; not all could be taken back: a and b stay linked"},
		{klips.SetDebug{}, "", errors.New("no daemon"), "no daemon"},
	}
	for _, tt := range tests {
		got := Error(tt.change, tt.object, tt.err)
		if got.Error() != tt.want {
			t.Errorf("Error(%v, %q, %v) = %q, want %q", tt.change.Op(), tt.object, tt.err, got, tt.want)
		}
		if !errors.Is(got, tt.err) {
			t.Errorf("Error(%v, %q, %v) does not unwrap to its cause", tt.change.Op(), tt.object, tt.err)
		}
	}
	if err := Error(klips.Group{}, "x", nil); err != nil {
		t.Errorf("Error(nil) = %v, want nil", err)
	}
}

// changes are one of each.
var changes = []klips.Change{
	klips.AddSA{}, klips.DeleteSA{}, klips.ClearSAs{}, klips.Group{}, klips.Ungroup{},
	klips.SetEroute{}, klips.SetEroute{Replace: true}, klips.SetPolicy{}, klips.DeleteEroute{}, klips.ClearEroutes{},
	klips.Attach{}, klips.Detach{}, klips.DetachAll{}, klips.CreateDevice{}, klips.DeleteDevice{},
	klips.SetDebug{}, klips.SetKnobs{}, klips.SetGuard{}, klips.RemoveGuard{}, klips.HoldPort{},
}

// TestVerbs: every operation that fails has a text, also with an errno that no text is
// made for.
func TestVerbs(t *testing.T) {
	ops := map[string]bool{listing: true, reading: true}
	for _, c := range changes {
		ops[c.Op()] = true
	}
	for op := range ops {
		if verb(op) == "" {
			t.Errorf("%q has no verb", op)
		}
		if got, want := meaning(op, 250), verb(op)+": the system refuses it with errno 250 (errno 250); its log (dmesg) may say why"; got != want {
			t.Errorf("meaning(%q, 250) = %q, want %q", op, got, want)
		}
	}
}

// TestTexts: each errno that a change documents (see klips.Change) has words of its own
// for that change, or is about all changes; and all words are one line.
func TestTexts(t *testing.T) {
	for _, d := range []struct {
		change klips.Change
		errnos []syscall.Errno
	}{
		{klips.AddSA{}, []syscall.Errno{syscall.EEXIST, syscall.EINVAL, syscall.EPROTO}},
		{klips.DeleteSA{}, []syscall.Errno{syscall.ESRCH}},
		{klips.Group{}, []syscall.Errno{syscall.ENOENT, syscall.EEXIST}},
		{klips.Ungroup{}, []syscall.Errno{syscall.ENOENT}},
		{klips.SetEroute{}, []syscall.Errno{syscall.EEXIST}},
		{klips.SetEroute{Replace: true}, []syscall.Errno{syscall.EFAULT}},
		{klips.SetPolicy{}, []syscall.Errno{syscall.ENOENT, syscall.EINVAL}},
		{klips.DeleteEroute{}, []syscall.Errno{syscall.ENOENT, syscall.EFAULT}},
		{klips.Attach{}, []syscall.Errno{syscall.ENODEV, syscall.ENXIO, syscall.EBUSY}},
		{klips.Detach{}, []syscall.Errno{syscall.ENODEV}},
		{klips.CreateDevice{}, []syscall.Errno{syscall.EEXIST, syscall.ENOENT}},
		{klips.DeleteDevice{}, []syscall.Errno{syscall.ENOENT}},
		{klips.SetDebug{}, []syscall.Errno{syscall.EOPNOTSUPP}},
	} {
		for _, errno := range d.errnos {
			if text(d.change.Op(), errno) == "" {
				t.Errorf("%s: there are no words for %v", d.change.Op(), errno)
			}
		}
	}
	line := func(what any, text string) {
		if text == "" || strings.ContainsAny(text, "\n\t") || strings.HasSuffix(text, ".") {
			t.Errorf("%v: %q, want one line without a full stop", what, text)
		}
	}
	for _, k := range texts {
		line(k.op, k.text)
		if verb(k.op) == "" {
			t.Errorf("text for the unknown operation %q", k.op)
		}
		if got := text(k.op, k.errno); got != k.text {
			t.Errorf("%s: %v has two texts, %q and %q", k.op, k.errno, got, k.text)
		}
	}
	for n, text := range common {
		errno := syscall.Errno(n)
		if text == "" {
			continue
		}
		line(errno, text)
		if text == errno.Error() {
			t.Errorf("%v has no more than its own words", errno)
		}
		if got := Reason(errno); got != text {
			t.Errorf("Reason(%v) = %q, want %q", errno, got, text)
		}
	}
	for _, f := range klips.Faults() {
		if (Fault(f) == "") == (remedy(f) == "") {
			t.Errorf("the fault %d (%v) has the words %q and the remedy %q, want one of them", f, f, Fault(f), remedy(f))
		}
		line(f, Fault(f)+remedy(f))
	}
}

func TestListingAndReading(t *testing.T) {
	id := klips.SAID{Dst: netip.MustParseAddr("10.0.0.2"), SPI: 0x100, Proto: klips.ProtoESP}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{Listing("SAs", &klips.OpError{Op: "list", Err: errors.New("garbled answer")}), "SAs: cannot be listed: garbled answer"},
		{Reading(id, syscall.ESRCH), "esp0x100@10.0.0.2: no such SA; ipsec spi lists those that exist"},
	} {
		if tt.err.Error() != tt.want {
			t.Errorf("got %q, want %q", tt.err, tt.want)
		}
	}
}

func TestLine(t *testing.T) {
	none := &klips.UnavailableError{Fault: klips.FaultNoDaemon, Why: "no daemon runs in /run/x", Err: syscall.ENOENT}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("line 3 is garbled"), "line 3 is garbled"},
		{fmt.Errorf("stack user: %w", none), "stack user: no daemon runs in /run/x; start one with: ipsec setup start"},
		{Listing("SAs", none), "no daemon runs in /run/x; start one with: ipsec setup start"},
		{fmt.Errorf("stack user: %w", &user.RundirError{Path: "/run/x", Fault: klips.FaultRundirLink, Err: syscall.ELOOP}),
			"stack user: /run/x: it is a symbolic link, which is not followed; set IPSEC_RUNDIR to the directory itself"},
	} {
		if got := Line(tt.err); got != tt.want {
			t.Errorf("Line(%v) = %q, want %q", tt.err, got, tt.want)
		}
	}
}

func TestCause(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&klips.OpError{Op: "list", Err: syscall.EPERM}, "not permitted; run it as root (CAP_NET_ADMIN is needed)"},
		{&klips.OpError{Op: "list", Err: syscall.EPERM, Reason: "a reason"}, "a reason"},
		{&klips.UnavailableError{Fault: klips.FaultNoESP, Err: syscall.ENOENT}, "this kernel has no ESP; load the module esp4 (CONFIG_INET_ESP), or use another stack (--stack)"},
		{&klips.UnavailableError{Why: "no KLIPS"}, "no KLIPS"},
		{errors.New("line 3 is garbled"), "line 3 is garbled"},
	} {
		if got := Cause(tt.err); got != tt.want {
			t.Errorf("Cause(%v) = %q, want %q", tt.err, got, tt.want)
		}
	}
}
