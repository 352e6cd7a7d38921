package setup

import (
	"bytes"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/commands/internal/listing"
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/drop"
	"github.com/klips-go/ipsec/klips/guard"
	"github.com/klips-go/ipsec/klips/serial"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/confine"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// TestGolden: the JSON of each status.
func TestGolden(t *testing.T) {
	full := &clitest.Full{}
	sas, _ := full.SAs(t.Context())
	devices, _ := full.Devices(t.Context())
	unread, _ := full.Unread(t.Context())
	knobs := []klips.Knob{{Name: "icmp", Value: 1}, {Name: "ike_bypass", Value: 1}, {Name: "natt_keepalive", Value: 20}, {Name: "tos"}}
	st := kernelStatus{
		Stack: "xfrm", Version: "Linux 6.1", SAs: 7, Eroutes: 2, Devices: devices, Knobs: knobs, Unprotected: &guard.Counters{In: 3}, Drops: drop.Counts{"not-esp": 3},
		Marks: &user.Marks{Lost: "the disk is full"}, Abilities: listing.Probe(t.Context(), serial.New(full)),
		Oddities: listing.Oddities{Unread: unread, Links: klips.CheckLinks(sas)},
	}
	for name, list := range map[string]output.SetupList{
		"user": statusList("user", daemonStatus(user.Status{
			PID: 4711, Version: "1.2.3", Rundir: "/run/ipsec", Uptime: 3600, SAs: 2, Eroutes: 1, Devices: devices, Dropped: 6,
			Holds: user.Holds{Held: 1, Max: 1024, Expired: 2, Evicted: 3}, Unprotected: &guard.Counters{Out: 1, In: 2}, Knobs: knobs,
			Drops: drop.Counts{"not-esp": 3}, Marks: user.Marks{Statedir: "/var/lib/ipsec", Keys: 4, Behind: 5},
			Rights: &confine.Rights{
				UID: 733, User: "_ipsec", Capabilities: []string{"net_admin", "net_raw"}, Without: []confine.Right{confine.RightPrivileges, confine.RightCalls},
				Refused: confine.Refusals{{Right: confine.RightSwap, Why: "the limit of locked memory is 65536 bytes"}},
			},
		})),
		"user-empty":   statusList("user", daemonStatus(user.Status{PID: 4711})),
		"user-stopped": statusList("user", stoppedDaemon("/run/ipsec", nil)),
		"user-left":    statusList("user", stoppedDaemon("/run/ipsec", []engine.LeftLink{{Name: "ipsec0", Physical: "eth0"}, {Name: "ipsec1"}})),
		"kernel":       st.json(),
		"kernel-empty": (&kernelStatus{Stack: "klips", Abilities: listing.Abilities{NotKnown: "not permitted"}}).json(),
		"kernel-none":  missing("klips", "this kernel has no KLIPS"),
	} {
		var out bytes.Buffer
		if err := output.Print(&cli.Env{Out: &out}, list); err != nil {
			t.Fatal(err)
		}
		clitest.GoldenJSON(t, "setup", name, out.String())
	}
}
