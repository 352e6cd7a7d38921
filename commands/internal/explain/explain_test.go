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
		op     Op
		object string
		err    error
		want   string
	}{
		{Group, "tun0x113@10.0.0.2", &klips.OpError{Op: "group", Object: "esp0x115@10.0.0.2", Err: syscall.ENOENT},
			"esp0x115@10.0.0.2: no such SA; make it first with ipsec spi (ipsec spi lists those that exist)"},
		{Group, "tun0x113@10.0.0.2", syscall.EEXIST,
			"tun0x113@10.0.0.2: already in a group; take its group apart first with ipsec spigrp and this SA alone (ipsec spigrp lists the groups)"},
		{AddSA, "ah0x100@10.0.0.2", &klips.OpError{Err: syscall.EPROTONOSUPPORT, Detail: "Requested type not found"},
			"ah0x100@10.0.0.2: the stack does not know the protocol or an algorithm; on a stock kernel load its module (esp4, ah4, ipcomp, or esp6, ah6, ipcomp6) (the stack says: Requested type not found)"},
		{Attach, "ipsec0", syscall.ENOTTY, "ipsec0: not attached: the device does not know the request; is it a virtual device of KLIPS? (ipsec tncfg lists them)"},
		{Attach, "ipsec0", syscall.EXFULL, "ipsec0: not attached: the system refuses it with EXFULL (exchange full); its log (dmesg) may say why"},
		{AddSA, "", &klips.OpError{Object: "comp0x10000@10.0.0.2", Err: syscall.EINVAL, Fault: klips.FaultCPI},
			"comp0x10000@10.0.0.2: not made: the SPI of a comp SA is a CPI, which has 16 bits (RFC 3173): take one of 0x100 to 0xffff"},
		{Attach, "mast0", &klips.OpError{Err: syscall.ENODEV, Fault: klips.FaultMast},
			"mast0: not attached: this stack has no mast devices, only ipsec0 to ipsec63; stack klips may have them (--stack)"},
		{AddSA, "esp0x101@10.0.0.2", &klips.OpError{Err: syscall.EKEYREJECTED, Fault: klips.FaultKeyUsed, Other: klips.SAID{Dst: netip.MustParseAddr("10.0.0.3"), SPI: 0x100, Proto: klips.ProtoESP}},
			"esp0x101@10.0.0.2: not made: esp0x100@10.0.0.3 sends with this key and salt; two that send with one key can use a nonce twice, which reveals packets and lets others forge them (RFC 4106 section 2): make another key with ipsec ranbits, or in a laboratory allow it with ipsec spi --insecure-reuse"},
		{AddSA, "esp0x101@10.0.0.2", &klips.OpError{Err: syscall.EKEYREJECTED, Fault: klips.FaultKeyUsed},
			"esp0x101@10.0.0.2: not made: another SA sends with this key and salt; two that send with one key can use a nonce twice, which reveals packets and lets others forge them (RFC 4106 section 2): make another key with ipsec ranbits, or in a laboratory allow it with ipsec spi --insecure-reuse"},
		{ClearSAs, "", syscall.EPERM, "the SAs were not removed: not permitted; run it as root (CAP_NET_ADMIN is needed)"},
		{Group, "", &klips.OpError{Object: "esp0x100@10.0.0.2", Err: syscall.EBUSY, Reason: "a reason", Left: "a and b stay linked"},
			"esp0x100@10.0.0.2: not grouped: a reason; not all could be taken back: a and b stay linked"},
		{SetDebug, "", errors.New("no daemon"), "no daemon"},
		{List, "SAs", &klips.OpError{Op: "list", Err: errors.New("garbled answer")}, "SAs: cannot be listed: garbled answer"},
	}
	for _, tt := range tests {
		got := Error(tt.op, tt.object, tt.err)
		if got.Error() != tt.want {
			t.Errorf("Error(%d, %q, %v) = %q, want %q", tt.op, tt.object, tt.err, got, tt.want)
		}
		if !errors.Is(got, tt.err) {
			t.Errorf("Error(%d, %q, %v) does not unwrap to its cause", tt.op, tt.object, tt.err)
		}
	}
	if err := Error(Group, "x", nil); err != nil {
		t.Errorf("Error(nil) = %v, want nil", err)
	}
}

// Every errno that KLIPS' tools have words for, and those of the stacks.
var known = []syscall.Errno{
	syscall.EACCES, syscall.EPERM, syscall.EUNATCH, syscall.EBUSY, syscall.EINVAL, syscall.ENODEV, syscall.ENOBUFS,
	syscall.ESOCKTNOSUPPORT, syscall.EEXIST, syscall.ENOENT, syscall.ENXIO, syscall.ESRCH, syscall.EFAULT,
	syscall.ENOSPC, syscall.ESPIPE, syscall.EAFNOSUPPORT, syscall.EMSGSIZE, syscall.EPROTO, syscall.EPROTONOSUPPORT,
	syscall.EPFNOSUPPORT, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.ENOMEM, syscall.EPIPE, syscall.EMFILE,
	syscall.ENFILE, syscall.ETIMEDOUT, syscall.ECONNREFUSED, syscall.EAGAIN, syscall.EINTR, syscall.ENOTTY,
	syscall.ENAMETOOLONG, syscall.E2BIG, syscall.ERANGE, syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EADDRINUSE,
	syscall.EADDRNOTAVAIL, syscall.ENOPROTOOPT, syscall.EROFS, syscall.EBADMSG, syscall.EOVERFLOW, syscall.EIO,
}

// TestTexts checks that every pair of operation and errno has one line that is
// more than the errno's own words.
func TestTexts(t *testing.T) {
	for op := Op(0); op < numOps; op++ {
		if verbs[op] == "" {
			t.Fatalf("operation %d has no verb", op)
		}
		for _, errno := range known {
			text := Text(op, errno)
			if text == "" || strings.ContainsAny(text, "\n\t") || strings.HasSuffix(text, ".") {
				t.Errorf("Text(%d, %v) = %q, want one line without a full stop", op, errno, text)
			}
			if text == verbs[op]+": "+errno.Error() {
				t.Errorf("Text(%d, %v) = %q, want an explanation", op, errno, text)
			}
		}
		// One that nobody has thought of is not left alone either.
		if got, want := Text(op, syscall.Errno(250)), verbs[op]+": the system refuses it with errno 250 (errno 250); its log (dmesg) may say why"; got != want {
			t.Errorf("Text(%d, 250) = %q, want %q", op, got, want)
		}
	}
	for _, f := range klips.Faults() {
		if (Fault(f) == "") == (remedy(f) == "") {
			t.Errorf("the fault %d (%v) has the words %q and the remedy %q, want one of them", f, f, Fault(f), remedy(f))
		}
	}
	for k := range texts {
		if k.op >= numOps {
			t.Errorf("text for unknown operation %d", k.op)
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
		{Error(List, "SAs", none), "no daemon runs in /run/x; start one with: ipsec setup start"},
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
