package made

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips"
)

func record() Connection {
	p := netip.MustParsePrefix
	c := Connection{Conn: "net", Config: "/etc/ipsec.conf", Keys: CheckKeys([][]byte{{1, 2}, {3}})}
	c.Form = Form{Tunnel: true, Interface: "ipsec0", Base: 0x1000, ESP: "aes128-gcm", ESPWindow: "64", Epoch: 3}
	c.Form.Ends = [2]End{
		{Addr: netip.MustParseAddr("192.0.2.1"), Subnet: p("10.1.0.0/16"), Given: true},
		{Addr: netip.MustParseAddr("192.0.2.2"), Subnet: p("10.2.0.0/16"), Given: true, ESPSPI: 0x300},
	}
	aside := c.Form
	aside.Epoch = 4
	c.Stage, c.Aside = Receive, &aside
	c.Closed = []Flow{{Guard: klips.Guard{Selector: klips.Selector{Src: p("10.1.0.0/16"), Dst: p("10.3.0.0/16")}, In: true}, Backstops: []netip.Prefix{p("10.3.0.0/16")}}}
	return c
}

// A record is read as it was stored.
func TestRecord(t *testing.T) {
	d, err := Make(t.TempDir() + "/run")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	want := record()
	if err := d.Put(want); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Get("net"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

// A record that lacks something is refused, whatever is in it.
func TestCheck(t *testing.T) {
	for name, spoil := range map[string]func(*Connection){
		"name": func(c *Connection) { c.Conn = "" }, "file": func(c *Connection) { c.Config = "" },
		"device": func(c *Connection) { c.Form.Interface = "" }, "end": func(c *Connection) { c.Form.Local = 2 },
		"subnet": func(c *Connection) { c.Form.Ends[1].Subnet = netip.Prefix{} },
		"aside":  func(c *Connection) { c.Aside = nil }, "stage": func(c *Connection) { c.Stage = "x" },
	} {
		c := record()
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		if spoil(&c); c.Check() == nil {
			t.Errorf("without a good %s it is taken", name)
		}
	}
}

// A check of keys finds other keys, and keys that are divided in another way.
func TestKeyCheck(t *testing.T) {
	keys := [][]byte{{1, 2}, {3}}
	c := CheckKeys(keys)
	if !c.Same(keys) || c.Same([][]byte{{1}, {2, 3}}) || c.Same([][]byte{{1, 2}}) || c.Same([][]byte{{1, 2}, {4}}) || (KeyCheck{}).Same(nil) {
		t.Error("wrong")
	}
	if other := CheckKeys(keys); reflect.DeepEqual(c, other) {
		t.Error("two checks of the same keys are the same: one salt serves both")
	}
	if strings.Contains(string(c.Sum), string([]byte{1, 2})) {
		t.Error("the keys are in it")
	}
}
