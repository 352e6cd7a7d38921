package spi_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/syntax"
)

const (
	key16 = "0x00112233445566778899aabbccddeeff"
	key20 = key16 + "00112233"
	key24 = key16 + "0011223344556677"
	key36 = key16 + "00112233445566778899aabbccddeeff01020304"
)

// run runs the applet with a command line whose arguments are separated by blanks.
func run(w clitest.World, line string) clitest.Result {
	return clitest.Run(spi.App(), w, strings.Fields(line)...)
}

// TestRefused checks the errors of wrong command lines, and that they send no request
// to the stack.
func TestRefused(t *testing.T) {
	const esp = "--said esp0x125@10.2.2.2 "
	tests := []struct{ line, want string }{
		{"--src 10.0.0.1", "nothing to do; give one of --ah, --esp, --comp, --ip4, --ip6, --del, --get and --clear"},
		{"--del", "the SA is not named completely: --edst is missing; an SA is --edst, --spi and --proto, or --said"},
		{"--del --edst 10.2.2.2 --proto esp", "the SA is not named completely: --spi is missing; an SA is --edst, --spi and --proto, or --said"},
		{"--del --edst 10.2.2.2 --spi 0x200", "the SA is not named completely: --proto is missing; an SA is --edst, --spi and --proto, or --said"},
		{"--del --edst 0.0.0.0 --spi 0x200 --proto esp", "--edst: the SA needs a destination, not 0.0.0.0"},
		{"--del --edst 10.2.2.2 --af inet --spi 0x200 --proto esp", "--af comes after --edst and takes it back; put --af first"},
		{"--del --clear", "--clear after --del; give one of --ah, --esp, --comp, --ip4, --ip6, --del, --get and --clear"},
		{"--del --spi 0xff", "--spi 0xff: SPIs below 0x100 are reserved"},
		{"--del --spi 0x1ffffffff", "--spi (11 characters, not shown: it may be a key): too large, at most 0xffffffff"},
		{"--del --spi 12z", "--spi 12z: 'z' is no decimal digit"},
		{"--del --proto icmp", "--proto icmp: not one of ah, esp, tun, comp"},
		{"--del --af ipv4", "--af ipv4: not one of inet, inet6"},
		{"--del " + esp + "--spi 0x200", "--said and --spi 0x200 both name the SA; give one"},
		{"--del --spi 0x200 " + esp, "--said and --spi 0x200 both name the SA; give one"},
		{"--del " + esp + esp, "--said is given twice: esp0x125@10.2.2.2 and esp0x125@10.2.2.2"},
		{"--del --said %pass", "--said %pass is a verdict for eroutes and no SA"},
		{"--ip6 --af inet6 " + esp, "--said esp0x125@10.2.2.2 is inet, but inet6 was asked for before it"},
		{"--ip4 --said tun:125@3049:1::1", "--said tun:125@3049:1::1 is inet6, but inet was asked for before it"},
		{"--said tun:125@3049:1::1 --ip4", "tun0x125@3049:1::1 is inet6, but inet was asked for"},
		{"--ip4 " + esp, "--ip4 makes SAs of protocol tun, but esp0x125@10.2.2.2 is asked for"},
		{"--comp deflate " + esp, "--comp makes SAs of protocol comp, but esp0x125@10.2.2.2 is asked for"},
		{"--comp zip --said comp0x125@10.2.2.2", "--comp zip: unknown compression algorithm; there are deflate, lzs"},
		{"--comp deflate --said comp0x25@10.2.2.2", "comp0x25@10.2.2.2: SPIs below 0x100 are reserved"},
		{"--comp deflate --said comp0x125@10.2.2.2 --src 3049:1::1", "--src 3049:1::1: an IPv4 address has no colon"},
		{"--src 3049:1::1 --comp deflate --edst 10.2.2.2 --spi 0x125 --proto comp", "--src is an inet6 address, but comp0x125@10.2.2.2 is inet"},
		{"--esp 3des-md5-96 " + esp + "--authkey " + key16, "--esp 3des-md5-96: 3des wants an encryption key of 24 bytes; none was given; make one with: ipsec ranbits 192"},
		{"--esp 3des-md5-96 " + esp + "--enckey " + key24 + " --authkey " + key20, "--esp 3des-md5-96: hmac-md5 wants an authentication key of 16 bytes; the one given has 20 bytes; make one with: ipsec ranbits 128"},
		{"--esp aes256-sha1 " + esp + "--enckey " + key16 + " --authkey " + key20, "--esp aes256-sha1 wants an encryption key of 32 bytes (256 bits); the one given has 16; make one with: ipsec ranbits 256"},
		{"--esp aes256-gcm " + esp + "--enckey " + key36 + " --authkey " + key16, "--esp aes256-gcm: an authentication key of 16 bytes was given, but there is no authentication that takes one"},
		{"--ah hmac-md5-96 --said ah0x125@10.2.2.2", "--ah hmac-md5-96: hmac-md5 wants an authentication key of 16 bytes; none was given; make one with: ipsec ranbits 128"},
		{"--ah hmac-md5-96 --authkey 0x0", "--authkey: odd number of hex digits, perhaps cut off"},
		{"--ah hmac-md5-96 --authkey nothex", "--authkey: must begin with 0x (hex), 0s (base64) or 0t (text)"},
		{"--ah hmac-md5-96 --authkey @", "--authkey @: there is no file name after @"},
		{"--esp aes-sha1 --authkey @- --enckey @-", "--enckey @-: standard input has been read for --authkey; put one of the keys into a file"},
		{"--del " + esp + "--replay_window 0", "--replay_window 0: the window has 1 to 64 packets; leave the option out to have none"},
		{"--del " + esp + "--replay_window 4097", "--replay_window 4097: too large, at most 4096"},
		{"--del " + esp + "--replay_window 65", "--replay_window 65 does not go with --del"},
		{"--del " + esp + "--esn", "--esn does not go with --del"},
		{"--del " + esp + "--seq 1", "--seq does not go with --del"},
		{"--clear --replay-seq 1", "--replay-seq does not go with --clear"},
		{"--seq 1", "nothing to do; give one of --ah, --esp, --comp, --ip4, --ip6, --del, --get and --clear"},
		{"--ip4 --said tun0x125@10.2.2.2 --seq 1", "--seq is for ESP and AH; a tun SA has no sequence numbers"},
		{"--comp deflate --said comp0x125@10.2.2.2 --replay-seq 0 --replay_window 64", "--replay-seq is for ESP and AH; a comp SA has no sequence numbers"},
		{"--ah hmac-sha1-96 --authkey " + key20 + " --said ah0x125@10.2.2.2 --replay-seq 1", "--replay-seq: without a replay window no number is compared; add --replay_window"},
		{"--ah hmac-sha1-96 --authkey " + key20 + " --said ah0x125@10.2.2.2 --seq 4294967296", "--seq 4294967296: too large, at most 4294967295 without --esn"},
		{"--ah hmac-sha1-96 --authkey " + key20 + " --said ah0x125@10.2.2.2 --esn --seq 0x10000000000000000", "--seq (19 characters, not shown: it may be a key): more than 16 hex digits"},
		{"--seq x", "--seq x: 'x' is no decimal digit"},
		{"--del " + esp + "--se 1", "unknown option --se; did you mean --seq?"},
		{"--del " + esp + "--offload eth0", "--offload does not go with --del"},
		{"--offload eth0", "nothing to do; give one of --ah, --esp, --comp, --ip4, --ip6, --del, --get and --clear"},
		{"--ip4 --said tun0x125@10.2.2.2 --offload eth0", "--offload is for ESP; no network device does the work of a tun SA"},
		{"--clear --esn", "--esn does not go with --clear"},
		{"--del " + esp + "--align8", "--align8 does not go with --del"},
		{"--ip4 --said tun0x125@10.2.2.2 --align8", "--align8 is for AH over IPv4; leave it out"},
		{"--esp null-sha1 --align8 " + esp + "--authkey " + key20, "--align8 is for AH over IPv4; leave it out"},
		{"--ah hmac-sha1-96 --align8 --said ah0x125@2001:db8::2 --authkey " + key20, "--align8 is for AH over IPv4; leave it out"},
		{"--del " + esp + "--copy-tos", "--copy-tos does not go with --del"},
		{"--esp null-sha1 --copy-tos " + esp + "--authkey " + key20, "--copy-tos is for --ip4 and --ip6, as esp SAs make no outer header; give it to the tun SA of the group"},
		{"--esn", "nothing to do; give one of --ah, --esp, --comp, --ip4, --ip6, --del, --get and --clear"},
		{"--ip4 --said tun0x125@10.2.2.2 --esn", "--esn is for ESP and AH; a tun SA has no sequence numbers"},
		{"--comp deflate --esn --replay_window 64 --said comp0x125@10.2.2.2", "--esn is for ESP and AH; a comp SA has no sequence numbers"},
		{"--esp 3des --esn " + esp + "--enckey " + key24, "--esn: --esp 3des does not authenticate its packets, and so not their sequence numbers; take one that does (see --help), or leave --esn out"},
		{"--del " + esp + "--natt nonesp", "--natt does not go with --del"},
		{"--clear --natt 2", "--natt does not go with --clear"},
		{"--clear --natt 3", "--natt 3: not one of nonesp (RFC 3948), nonike (draft-02), none"},
		{"--get " + esp + "--life soft-bytes=1", "--life does not go with --get"},
		{"--get " + esp + "--outif 49153", "--outif does not go with --get"},
		{"--get " + esp + "--saref 5", "SA references do not go with --get"},
		{"--clear --life mid-bytes=1", "--life: item 1: mid-bytes=1 begins with neither soft- nor hard-"},
		{"--clear --life soft-octets=1", "--life: item 1: soft-octets=1: after soft- comes one of allocations, bytes, addtime, usetime, packets"},
		{"--clear --life soft-bytes", "--life: soft-bytes: there is no number after ="},
		{"--clear --life soft-bytes=1,", "--life: item 2 is empty; it is written like soft-bytes=1000"},
		{"--clear --life soft-bytes=1,soft-bytes=2", "--life: soft-bytes is given twice"},
		{"--clear --life hard-allocations=4294967296", "--life: hard-allocations: too large, at most 4294967295"},
		{"--clear extra", "unexpected argument number 2 (5 characters, not shown: it may be part of a key); everything here is given with options"},
		{"--clear " + key16, "unexpected argument number 2 (34 characters, not shown: it may be part of a key); everything here is given with options"},
		{"--cleat", "unknown option --cleat; did you mean --clear?"},
	}
	for _, tt := range tests {
		w := clitest.World{Stack: &clitest.Stack{}, In: strings.NewReader(key20 + "\n"), Resolver: clitest.Names}
		r := run(w, tt.line)
		if want := "ipsec spi: " + tt.want + "\n"; r.Err != want || r.Status != cli.ExitUsage || r.Opened || r.Out != "" {
			t.Errorf("spi %s: status %d, opened %v\n got %swant %s", tt.line, r.Status, r.Opened, r.Err, want)
		}
	}
}

// TestStackRefuses checks texts that depend on the stack.
func TestStackRefuses(t *testing.T) {
	const add = "--comp deflate --said comp0x125@10.2.2.2"
	tests := []struct {
		line  string
		stack clitest.Stack
		want  string
	}{
		{add, clitest.Stack{SendErr: syscall.EEXIST}, "comp0x125@10.2.2.2: an SA with this SAID exists; remove it first with ipsec spi --del, or take another SPI"},
		{"--del --said esp0x125@10.2.2.2", clitest.Stack{SendErr: syscall.ESRCH}, "esp0x125@10.2.2.2: no such SA; ipsec spi lists those that exist"},
		{"--get --said esp0x125@10.2.2.2", clitest.Stack{SendErr: syscall.ESRCH}, "esp0x125@10.2.2.2: no such SA; ipsec spi lists those that exist"},
		{"--clear", clitest.Stack{SendErr: syscall.EACCES}, "the SAs were not removed: not permitted; run it as root (CAP_NET_ADMIN is needed)"},
		{add + " --replay_window 65", clitest.Stack{}, "comp0x125@10.2.2.2: stack klips has replay windows of at most 64 packets, not 65"},
		{"--esp aes256-gcm --said esp0x125@10.2.2.2 --enckey " + key36, clitest.Stack{}, "esp0x125@10.2.2.2: stack klips has no combined-mode ciphers; take aes256-sha2_256, or another stack (--stack)"},
		{"--esp null-sha1 --offload eth0 --said esp0x125@10.2.2.2 --authkey " + key20, clitest.Stack{}, `esp0x125@10.2.2.2: --offload "eth0": stack klips does all the work itself; leave the option out, or take stack xfrm (--stack)`},
		{"--ah hmac-sha1-96 --esn --said ah0x125@10.2.2.2 --authkey " + key20, clitest.Stack{}, "ah0x125@10.2.2.2: stack klips has no extended sequence numbers; leave --esn out at both ends, or take another stack (--stack)"},
		{"--ah hmac-sha1-96 --seq 0 --said ah0x125@10.2.2.2 --authkey " + key20, clitest.Stack{}, "ah0x125@10.2.2.2: stack klips cannot be told sequence numbers, as its messages have no place for them; leave --seq and --replay-seq out, or take another stack (--stack)"},
		{"", clitest.Stack{ListErr: syscall.ENOENT}, "spi: the stack has no such table; is it running? (ipsec setup status)"},
	}
	for _, tt := range tests {
		r := run(clitest.World{Stack: &tt.stack}, tt.line)
		if want := "ipsec spi: " + tt.want + "\n"; r.Err != want || r.Status != cli.ExitFailed || tt.stack.Closed != 1 {
			t.Errorf("spi %s: status %d\n got %swant %s", tt.line, r.Status, r.Err, want)
		}
	}
	r := run(clitest.World{StackErr: os.ErrNotExist}, "--clear")
	if r.Status != cli.ExitFailed || r.Err != "ipsec spi: file does not exist\n" {
		t.Errorf("spi --clear without a stack: status %d, %s", r.Status, r.Err)
	}
}

// TestCapabilities checks that only stacks with an ability receive the requests that
// need it.
func TestCapabilities(t *testing.T) {
	caps := map[klips.Capability]bool{klips.CapAEAD: true, klips.CapLargeWindow: true}
	for _, line := range []string{
		"--esp aes256-gcm --said esp0x125@10.2.2.2 --replay_window 4096 --enckey " + key36,
		"--esp chacha20-poly1305 --said esp:125@3049:1::1 --enckey " + key36,
	} {
		s := &clitest.Stack{Caps: caps}
		if r := run(clitest.World{Stack: s}, line); r.Status != 0 || r.Err != "" || len(s.Messages) != 1 {
			t.Errorf("spi %s: status %d, %d messages, %s", line, r.Status, len(s.Messages), r.Err)
		}
	}
}

func TestAlign8(t *testing.T) {
	for _, option := range []string{"", " --align8"} {
		s := new(clitest.Stack)
		r := run(clitest.World{Stack: s}, "--ah hmac-sha2-256-128 --said ah0x125@10.2.2.2 --authkey 0x"+strings.Repeat("5a", 32)+option)
		if r.Status != 0 || r.Err != "" || len(s.Specs) != 1 || s.Specs[0].Align8 != (option != "") {
			t.Errorf("with %q: status %d, SAs %+v, %s", option, r.Status, s.Specs, r.Err)
		}
	}
}

func TestCopyTOS(t *testing.T) {
	for _, sa := range []string{"--ip4 --said tun0x125@10.2.2.2", "--ip6 --said tun0x125@2001:db8::2"} {
		for _, option := range []string{"", " --copy-tos"} {
			s := new(clitest.Stack)
			r := run(clitest.World{Stack: s}, sa+option)
			if r.Status != 0 || r.Err != "" || len(s.Specs) != 1 || s.Specs[0].CopyTOS != (option != "") {
				t.Errorf("%s%s: status %d, SAs %+v, %s", sa, option, r.Status, s.Specs, r.Err)
			}
		}
	}
}

// TestESN checks the default window of --esn, and that --es is still an abbreviation of
// --esp.
func TestESN(t *testing.T) {
	caps := map[klips.Capability]bool{klips.CapESN: true, klips.CapLargeWindow: true}
	for _, tt := range []struct {
		line   string
		window uint32
		esn    bool
	}{
		{"--esn", 64, true},
		{"--esn --replay_window 32", 32, true},
		{"--replay_window=4096 --esn --esn", 4096, true},
		{"--replay_window=4096", 4096, false},
		{"", 0, false},
	} {
		for _, sa := range []string{
			"--es 3des-sha1-96 --said esp0x125@10.2.2.2 --enckey " + key24 + " --authkey " + key20,
			"--ah hmac-sha1-96 --said ah:125@3049:1::1 --authkey " + key20,
		} {
			s := &clitest.Stack{Caps: caps}
			r := run(clitest.World{Stack: s}, sa+" "+tt.line)
			if r.Status != 0 || r.Err != "" || len(s.Specs) != 1 {
				t.Errorf("spi %s %s: status %d, %d SAs, %s", sa, tt.line, r.Status, len(s.Specs), r.Err)
				continue
			}
			if got := s.Specs[0]; got.Window != tt.window || got.ESN != tt.esn {
				t.Errorf("spi %s %s: window %d, ESN %v, want %d, %v", sa, tt.line, got.Window, got.ESN, tt.window, tt.esn)
			}
		}
	}
}

// TestSeq checks the sequence numbers in the request, and that --replay is still an
// abbreviation of --replay_window.
func TestSeq(t *testing.T) {
	caps := map[klips.Capability]bool{klips.CapESN: true, klips.CapSeq: true}
	for _, tt := range []struct {
		line         string
		window       uint32
		seq, replayd *uint64
	}{
		{"--seq 0x10", 0, new(uint64(16)), nil},
		{"--seq 5 --replay_window 32 --replay-seq 0", 32, new(uint64(5)), new(uint64)},
		{"--replay-seq=4294967295 --replay 64", 64, nil, new(uint64(1<<32 - 1))},
		{"--esn --replay-seq=0xffffffffffffffff --seq 18446744073709551615", 64, new(uint64(1<<64 - 1)), new(uint64(1<<64 - 1))},
	} {
		s := &clitest.Stack{Caps: caps}
		r := run(clitest.World{Stack: s}, "--ah hmac-sha1-96 --said ah:125@3049:1::1 --authkey "+key20+" "+tt.line)
		if r.Status != 0 || r.Err != "" || len(s.Specs) != 1 {
			t.Errorf("spi %s: status %d, %d SAs, %s", tt.line, r.Status, len(s.Specs), r.Err)
			continue
		}
		if got := s.Specs[0]; got.Window != tt.window || !cmp.Equal(got.Seq, tt.seq) || !cmp.Equal(got.ReplaySeq, tt.replayd) {
			t.Errorf("spi %s: window %d, numbers %v and %v", tt.line, got.Window, got.Seq, got.ReplaySeq)
		}
	}
}

// TestKeySources checks that keys from files and standard input have the same effect as
// keys on the command line.
func TestKeySources(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "@" + file
	}
	const line = "--esp 3des-sha1-96 --said esp0x125@10.2.2.2 "
	ref := &clitest.Stack{}
	if r := run(clitest.World{Stack: ref}, line+"--authkey "+key20+" --enckey "+key24); r.Status != 0 {
		t.Fatal(r.Err)
	}
	for _, tt := range []struct{ name, keys, in string }{
		{"two files", "--authkey " + write("a", key20+"\n") + " --enckey " + write("e", key24), ""},
		{"carriage return", "--authkey " + write("cr", key20+"\r\n") + " --enckey " + key24, ""},
		{"blank lines around", "--authkey " + write("lines", "\n\n"+key20+"\r\n\n") + " --enckey " + key24, ""},
		{"blanks around", "--authkey " + write("blanks", " \t"+key20+"  ") + " --enckey " + key24, ""},
		{"standard input", "--authkey " + key20 + " --enckey @-", key24 + "\n"},
	} {
		s := &clitest.Stack{}
		r := run(clitest.World{Stack: s, In: strings.NewReader(tt.in)}, line+tt.keys)
		if r.Status != 0 || len(s.Messages) != 1 || s.Messages[0] != ref.Messages[0] {
			t.Errorf("%s: status %d, messages %q, want %q; %s", tt.name, r.Status, s.Messages, ref.Messages, r.Err)
		}
	}
	for _, tt := range []struct{ name, keys, want string }{
		{"no such file", "--authkey @" + dir + "/none", "--authkey: " + dir + "/none: no such file or directory"},
		{"empty file", "--authkey " + write("empty", ""), "--authkey: " + dir + "/empty is empty; a key file holds one key, as ipsec ranbits prints it"},
		{"blanks alone", "--authkey " + write("blank", " \n\t\r\n"), "--authkey: " + dir + "/blank is empty; a key file holds one key"},
		{"two keys", "--authkey " + write("two", key20+"\n"+key24+"\n"), "--authkey: the key in " + dir + "/two: there is more than one line; a key file holds one key"},
		{"two keys on a line", "--authkey " + write("line", key20+" "+key24), "--authkey: the key in " + dir + "/line: character 43 is no hex digit"},
		{"a directory", "--authkey @" + dir, "--authkey: " + dir + " is a directory; name a file with a key in it"},
		{"no name", "--authkey @", "--authkey @: there is no file name after @"},
		{"a key for a file", "--authkey @" + key20, "--authkey: (42 characters, not shown: it may be a key): no such file or directory"},
		{"endless", "--authkey @/dev/zero", "--authkey: /dev/zero is longer than a key can be (16384 bytes)"},
	} {
		s := &clitest.Stack{}
		r := run(clitest.World{Stack: s}, line+tt.keys)
		if r.Status == 0 || !strings.HasPrefix(r.Err, "ipsec spi: "+tt.want) || r.Opened {
			t.Errorf("%s: status %d, %s", tt.name, r.Status, r.Err)
		}
		if strings.Contains(r.Err, key16[2:]) {
			t.Errorf("%s: the message has a key: %s", tt.name, r.Err)
		}
	}
}

// TestKeyFileMode checks the note on key files that others can read or change.
func TestKeyFileMode(t *testing.T) {
	t.Chdir(t.TempDir())
	const line = "--esp 3des-sha1-96 --said esp0x125@10.2.2.2 --authkey "
	for mode, want := range map[os.FileMode]string{
		0o600: "", 0o400: "", 0o700: "",
		0o640: "can be read by others (mode 0640)", 0o604: "can be read by others (mode 0604)",
		0o620: "can be changed by others (mode 0620)", 0o602: "can be changed by others (mode 0602)",
	} {
		if err := os.WriteFile("k", []byte(key20), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod("k", mode); err != nil {
			t.Fatal(err)
		}
		if want != "" {
			want = "ipsec spi: note: esp0x125@10.2.2.2: the key file k " + want + "; make it private with: chmod 600 k\n"
		}
		s := &clitest.Stack{}
		r := run(clitest.World{Stack: s}, line+"@k --enckey "+key24)
		if r.Status != 0 || r.Err != want {
			t.Errorf("mode %04o: status %d, %q, want %q", mode, r.Status, r.Err, want)
		}
		os.Remove("k")
	}
	// A pipe that the shell has made is not a file of a user.
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	pw.WriteString(key20 + "\n")
	pw.Close()
	r := run(clitest.World{Stack: &clitest.Stack{}}, fmt.Sprintf("%s@/dev/fd/%d --enckey %s", line, pr.Fd(), key24))
	if r.Status != 0 || r.Err != "" {
		t.Errorf("a pipe: status %d, %q", r.Status, r.Err)
	}
}

// TestKeyAdvice follows the advice about keys of wrong lengths for every algorithm: the
// resulting keys must be accepted.
func TestKeyAdvice(t *testing.T) {
	advice := regexp.MustCompile(`wants an (authentication|encryption) key of .*; make one with: ipsec ranbits ([0-9]+)`)
	for proto, algs := range map[string][]syntax.AlgName{"esp": syntax.ESPNames(), "ah": syntax.AHNames()} {
		for _, alg := range algs {
			for _, wrong := range []string{"", "0x00"} {
				keys := map[string]string{"authentication": wrong, "encryption": wrong}
				for tries := 0; ; tries++ {
					line := "--" + proto + " " + alg.Name + " --said " + proto + "0x125@10.2.2.2"
					for kind, option := range map[string]string{"authentication": " --authkey ", "encryption": " --enckey "} {
						if keys[kind] != "" && strings.Contains(alg.KeyHelp, kind) {
							line += option + keys[kind]
						}
					}
					r := run(clitest.World{Stack: &clitest.Stack{Caps: map[klips.Capability]bool{klips.CapAEAD: true}}}, line)
					if r.Status == 0 {
						break
					}
					m := advice.FindStringSubmatch(r.Err)
					if m == nil || tries == 2 {
						t.Errorf("spi %s: %s", line, r.Err)
						break
					}
					bits, _ := strconv.Atoi(m[2])
					keys[m[1]] = "0x" + strings.Repeat("5a", bits/8)
				}
			}
		}
	}
}

func TestOutput(t *testing.T) {
	const add = "--comp deflate --said comp0x125@10.2.2.2 "
	tests := []struct{ line, out, err string }{
		{add, "", ""},
		{add + "--dumpsaref", "ipsec spi: saref=7/3\n", ""},
		{add + "--sarefme=7", "ipsec spi: saref=7/3\n", ""},
		{add + "--sarefme=0", "", ""},
		{"--label x " + add + "--saref=7", "ipsec spi --label x: saref=7/3\n", ""},
		{"--label x --label y --clear --listenreply", "ipsec spi --label y: exited normally\n", ""},
		{"--get --said esp0x125@10.2.2.2", "ipsec spi: lifetime_current=0(allocations)/0(bytes)/0(addtime)/0(usetime)\n", ""},
		{"--version --nosuch", "ipsec spi 1.2.3\n", ""},
		{"--src 10.0.0.1 " + add, "", ""},
		{"--src 10.0.0.1 --ip4 --said tun0x125@10.2.2.2", "", "ipsec spi: note: tun0x125@10.2.2.2: with --ip4 and --ip6, --src has no effect before --said; put it after\n"},
		{add + "--authkey " + key16, "", "ipsec spi: note: comp0x125@10.2.2.2: nothing is authenticated, --authkey is not used\n"},
		{add + "--life hard-packets=5", "", "ipsec spi: note: comp0x125@10.2.2.2: stack klips has no limits in packets; this one has no effect\n"},
		{"--del --said esp0x125@10.2.2.2 --debug", "", "ipsec spi: debug: stack klips\nipsec spi: debug: remove esp0x125@10.2.2.2\n"},
	}
	for _, tt := range tests {
		r := run(clitest.World{Stack: &clitest.Stack{Refs: [2]uint32{7, 3}}}, tt.line)
		if r.Status != 0 || r.Out != tt.out || r.Err != tt.err {
			t.Errorf("spi %s: status %d\nstdout %q, want %q\nstderr %q, want %q", tt.line, r.Status, r.Out, tt.out, r.Err, tt.err)
		}
	}
}

// TestNoKeyIsPrinted runs a correct and a wrong command line with --debug.
func TestNoKeyIsPrinted(t *testing.T) {
	for _, line := range []string{
		"--debug --esp 3des-sha1-96 --said esp0x125@10.2.2.2 --authkey " + key20 + " --enckey " + key24,
		"--debug --esp 3des-sha1-96 --said esp0x125@10.2.2.2 --enckey " + key24 + " --authkey " + key16,
		"--authkey " + key20 + "zz",
		"--authkye=" + key20,
	} {
		r := run(clitest.World{}, line)
		if strings.Contains(r.Out+r.Err, key16[2:18]) {
			t.Errorf("spi %s: %s%s", line, r.Out, r.Err)
		}
	}
}

func TestOptionsFrom(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "options")
	text := "# the keys\n--esp 3des-sha1-96\n--authkey " + key20 + "\n--enckey\n\"" + key24 + "\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &clitest.Stack{}
	r := run(clitest.World{Stack: s}, "--optionsfrom "+file+" --said esp0x125@10.2.2.2")
	if r.Status != 0 || len(s.Messages) != 1 {
		t.Errorf("status %d, %d messages: %s", r.Status, len(s.Messages), r.Err)
	}
	r = run(clitest.World{}, "--optionsfrom "+dir+"/none")
	if want := "ipsec spi: --optionsfrom " + dir + "/none: no such file or directory\n"; r.Status != cli.ExitFailed || r.Err != want {
		t.Errorf("status %d: %s", r.Status, r.Err)
	}
	loop := filepath.Join(dir, "loop")
	if err := os.WriteFile(loop, []byte("--optionsfrom "+loop+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r = run(clitest.World{}, "--optionsfrom "+loop); r.Status != cli.ExitFailed || !strings.Contains(r.Err, "does "+loop+" name itself?") {
		t.Errorf("status %d: %s", r.Status, r.Err)
	}
}

// TestUsage checks that the usage text has every visible option and the algorithms.
func TestUsage(t *testing.T) {
	r := run(clitest.World{}, "--help")
	if r.Status != 0 || r.Err != "" || r.Opened {
		t.Fatalf("status %d, %s", r.Status, r.Err)
	}
	for _, o := range spi.App().Options {
		if got := strings.Contains(r.Out, "--"+o.Name); !got && !o.Hidden {
			t.Errorf("usage lacks --%s", o.Name)
		}
	}
	for _, a := range syntax.ESPNames() {
		if !strings.Contains(r.Out, a.Name) {
			t.Errorf("usage lacks %s", a.Name)
		}
	}
}

func FuzzCommandLine(f *testing.F) {
	clitest.FuzzCommandLine(f, spi.App,
		"", "--help", "--clear", "--del --said esp0x125@10.2.2.2", "--get --af inet6 --edst 3049:1::1 --spi 0x200 --proto ah",
		"--esp 3des-md5-96 --said esp.200@gw2 --enckey @- --authkey "+key16+" --life soft-bytes=1,hard-packets=2 --replay_window 64",
		"--ah hmac-sha1-96 --af inet --edst gw1 --spi 512 --proto ah --authkey 0t12345678901234567890 --src 10.0.0.1",
		"--ip4 --src 10.0.0.1 --dst 10.2.2.2 --said tun0x200@10.2.2.2 --natt nonesp --sport 4500 --outif 49153",
		"--comp deflate --said comp:200@gw6 --saref=1 --sarefhim 2 --listenreply --label x --debug",
		"--esp aes256-gcm --said esp0x125@10.2.2.2 --enckey "+key36)
}

// A counted is a stack with one SA that has counted packets.
type counted struct {
	clitest.Stack
	life klips.Life
}

func (s *counted) GetSA(_ context.Context, id klips.SAID) (klips.SA, error) {
	return klips.SA{ID: id, Life: s.life}, nil
}

// TestGetBelowZero: scripts get the number of KLIPS, people get a note with its
// meaning.
func TestGetBelowZero(t *testing.T) {
	s := &counted{life: klips.Life{Allocations: klips.Counter{Count: 1}, AddTime: klips.Counter{Count: 7}, UseTime: klips.Counter{Count: 5}}}
	for _, tt := range []struct {
		raw       uint64
		out, note string
	}{
		{252, "252(bytes)", ""},
		{18446744073709551364, "18446744073709551364(bytes)",
			"ipsec spi: note: the bytes of ah0x125@10.2.2.2 are counted wrongly: KLIPS has taken away 252 more than it has added, and shows 18446744073709551364\n"},
	} {
		s.life.Bytes.SetRaw(tt.raw)
		r := run(clitest.World{Wrap: func(*clitest.Stack) klips.Stack { return serial.New(s) }}, "--get --said ah0x125@10.2.2.2")
		if want := "ipsec spi: lifetime_current=1(allocations)/" + tt.out + "/7(addtime)/5(usetime)\n"; r.Status != 0 || r.Out != want || r.Err != tt.note {
			t.Errorf("%d: status %d, %q and %q, want %q and %q", tt.raw, r.Status, r.Out, r.Err, want, tt.note)
		}
	}
}
