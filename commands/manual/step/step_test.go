package step

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/routes"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/spi"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/clamp"
)

var (
	peer = netip.MustParseAddr("10.0.0.2")
	net2 = netip.MustParsePrefix("10.2.0.0/16")
	said = klips.SAID{Dst: peer, SPI: 0x200, Proto: klips.ProtoESP}
	via  = routes.Route{Dst: net2, Gateway: peer, Device: "ipsec0"}
)

func madeSA(key string) *spi.Description {
	return &spi.Description{ID: said, Src: netip.MustParseAddr("10.0.0.1"), Alg: "aes128-gcm", EncKey: key}
}

// TestText: a step of each kind as a line for a shell, without keys.
func TestText(t *testing.T) {
	for _, tt := range []struct {
		step Step
		want string
	}{
		{Step{Route: &via}, "ip route add 10.2.0.0/16 via 10.0.0.2 dev ipsec0"},
		{Step{Route: &via, Replace: true}, "ip route replace 10.2.0.0/16 via 10.0.0.2 dev ipsec0"},
		{Step{Route: &routes.Route{Dst: netip.MustParsePrefix("2001:db8::/32")}, Remove: true}, "ip -6 route del 2001:db8::/32"},
		{Step{Backstop: &net2}, "ip route replace unreachable 10.2.0.0/16 metric 4294967294 proto 75"},
		{Step{Backstop: &net2, Remove: true}, "ip route del unreachable 10.2.0.0/16 metric 4294967294 proto 75"},
		{Step{Device: "ipsec0", Address: &net2}, "ip addr add 10.2.0.0/16 dev ipsec0"},
		{Step{Device: "ipsec0", MTU: 1400}, "ip link set ipsec0 mtu 1400"},
		{Step{Device: "ipsec0"}, "ip link set ipsec0 up"},
		{Step{Device: "ipsec0", Remove: true}, "ip link set ipsec0 down"},
		{Step{Script: "echo 'a'", Verb: "up-host"}, `PLUTO_VERB=up-host sh -c 'echo '\''a'\'''`},
		{Step{Change: klips.DeleteSA{ID: said}, Label: "t"}, "ipsec --stack user spi --label t --del --said esp0x200@10.0.0.2"},
		{Step{SA: madeSA("0x00112233"), Label: "t"}, "--enckey …"},
		{Step{SA: madeSA("@/etc/ipsec.d/t.key"), Label: "t"}, "--enckey @/etc/ipsec.d/t.key"},
	} {
		got := tt.step.Text("user", false)
		if got != tt.want && (tt.step.SA == nil || !strings.Contains(got, tt.want)) || strings.Contains(got, "0x00112233") {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
	if got := (&Step{SA: madeSA("0x00112233")}).Text("", true); !strings.Contains(got, "--enckey 0x00112233") {
		t.Errorf("with keys: %s", got)
	}
}

// TestFailed: a failure names its step, and the error of a file stays as it is.
func TestFailed(t *testing.T) {
	const notRoot = "not permitted; run it as root (CAP_NET_ADMIN is needed)"
	inFile := &conf.Error{Msg: "no such key"}
	for _, tt := range []struct {
		step  Step
		cause error
		want  string
	}{
		{Step{Route: &via}, syscall.ENETDOWN, "ip route add 10.2.0.0/16 via 10.0.0.2 dev ipsec0: ipsec0 is down; ip link set ipsec0 up"},
		{Step{Backstop: &net2}, syscall.EPERM, "ip route replace unreachable 10.2.0.0/16 metric 4294967294 proto 75: " + notRoot},
		{Step{Device: "ipsec0", MTU: 9000}, syscall.EINVAL, "ip link set ipsec0 mtu 9000: ipsec0 cannot have this MTU; give a smaller one"},
		{Step{Clamp: &clamp.Clamp{Name: "t"}}, syscall.EPERM, "mss: " + notRoot},
		{Step{Guard: &klips.Guard{}, Device: "ipsec0"}, errors.New("the flow"), "guard: the flow"},
		{Step{Script: "false", Verb: "up-host"}, errors.New("exit status 1"), "false (up-host): exit status 1"},
		{Step{Change: klips.DeleteSA{ID: said}}, errors.New("there is no such SA"), "spi esp0x200@10.0.0.2: there is no such SA"},
		{Step{Change: klips.DeleteSA{ID: said}}, errors.New("esp0x200@10.0.0.2 is in use"), "spi: esp0x200@10.0.0.2 is in use"},
		{Step{Route: &via}, inFile, inFile.Error()},
	} {
		err := tt.step.failed(tt.cause)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
	if err := (&Step{Route: &via}).failed(nil); err != nil {
		t.Errorf("no failure: %v", err)
	}
}

// TestSpared: only the failure to remove what is not there is spared, and only if the step
// permits that.
func TestSpared(t *testing.T) {
	for _, tt := range []struct {
		permits bool
		cause   syscall.Errno
		want    bool
	}{
		{true, syscall.ESRCH, true},
		{true, syscall.EPERM, false},
		{false, syscall.ESRCH, false},
	} {
		s := &Step{Route: &via, Remove: true, IfExists: tt.permits}
		if got := spared(s, s.failed(tt.cause)); got != tt.want {
			t.Errorf("%v, permitted %v: spared %v, want %v", tt.cause, tt.permits, got, tt.want)
		}
	}
}
