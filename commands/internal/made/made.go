// Package made records in the run directory what commands have made of connections of
// configuration files, without keys. So a later command can take down, compare or change
// what is there, even after the file has changed or is gone.
package made

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/netip"

	"github.com/klips-go/ipsec/commands/internal/stored"
	"github.com/klips-go/ipsec/klips"
)

// directory is the directory of the records in the run directory.
const directory = "made"

// A Connection is the record of a connection that was routed or brought up.
type Connection struct {
	Conn   string // its name
	Config string // the file that it was made from, an absolute path
	Form   Form
	Keys   KeyCheck // of the SAs; zero: it was only routed
	// Stage is how far a change of its SAs is. Aside is then the form whose SAs exist
	// besides those of Form.
	Stage Stage `json:",omitempty"`
	Aside *Form `json:",omitempty"`
	// MTUBefore is the MTU of the virtual device before connections set it, in bytes; 0:
	// none is put back when the connection is taken down.
	MTUBefore int `json:",omitempty"`
	// Closed are flows of earlier forms that still must not leave in clear.
	Closed []Flow `json:",omitempty"`
}

// A Stage is a stage of a change of SAs, make before break.
type Stage string

const (
	// Receive: the new SAs from the peer exist (Aside); packets are sent by the old ones.
	Receive Stage = "receive"
	// Send: packets are sent by the new SAs; the old ones exist (Aside).
	Send Stage = "send"
)

// A Form is what a connection says, without its keys. Two equal forms are made by the same
// changes of a stack and of the host's routes, apart from keys.
type Form struct {
	Shunt     string `json:",omitempty"` // "%pass", "%drop" or "%reject"
	Tunnel    bool
	Local     int    // the index of this host's end
	Ends      [2]End // left and right
	Interface string // the virtual device
	Via       bool   // its routes have the next hop as gateway

	SPI, Base           klips.SPI // one of them is set, unless it is a shunt
	Epoch               uint32
	ESP, AH             string // algorithms
	ESPWindow, AHWindow string // replay windows in packets; empty: none
	CopyTOS             bool
	ESN                 bool `json:",omitempty"`
	Encap               bool `json:",omitempty"` // ESP in UDP
	MTU                 int  `json:",omitempty"` // of the virtual device, in bytes; 0: the stack's choice
	// MSS is "auto" or the largest segment size in bytes that its TCP announces; empty: it is
	// left alone.
	MSS string `json:",omitempty"`
}

// An End is an end of a connection.
type End struct {
	Addr          netip.Addr
	Any           bool         // the far end of a shunt
	Subnet        netip.Prefix // behind this end
	Given         bool         // the file has the subnet
	Nexthop       netip.Addr
	Updown        string    // the command; empty: the built-in one
	TunSPI        klips.SPI `json:",omitempty"` // 0: from SPI or Base
	ESPSPI, AHSPI klips.SPI // likewise
	Proto         uint8     `json:",omitempty"` // of its packets
	Port          uint16    `json:",omitempty"`
	SourceIP      netip.Addr
	NATPort       uint16 `json:",omitempty"` // for ESP in UDP
}

// A Flow is packets that must not leave in clear, and what keeps them from it.
type Flow struct {
	Guard     klips.Guard
	Backstops []netip.Prefix `json:",omitempty"`
}

// Name returns the connection's name.
func (c Connection) Name() string { return c.Conn }

// Up reports whether it was up after the last command that changed it. Its SAs are gone all
// the same if the stack has ended since.
func (c Connection) Up() bool { return len(c.Keys.Sum) > 0 }

// Check returns an error for a record that lacks something.
func (c Connection) Check() error {
	switch {
	case c.Conn == "", c.Config == "", c.Form.Interface == "", c.Form.Local != 0 && c.Form.Local != 1:
	case !c.Form.Ends[0].Subnet.IsValid() || !c.Form.Ends[1].Subnet.IsValid():
	case (c.Stage == "") != (c.Aside == nil), c.Stage != "" && c.Stage != Receive && c.Stage != Send:
	default:
		return nil
	}
	return errors.New("something is missing in it")
}

// A KeyCheck tells whether keys are the same, without showing them.
type KeyCheck struct {
	Salt, Sum []byte `json:",omitempty"`
}

// CheckKeys returns the check of keys, in their order, with a random salt.
func CheckKeys(keys [][]byte) KeyCheck {
	salt := make([]byte, sha256.Size)
	rand.Read(salt) // never returns an error
	return KeyCheck{salt, sum(salt, keys)}
}

// Same reports whether keys are those of the check.
func (k KeyCheck) Same(keys [][]byte) bool {
	return len(k.Salt) > 0 && hmac.Equal(k.Sum, sum(k.Salt, keys))
}

func sum(salt []byte, keys [][]byte) []byte {
	h := hmac.New(sha256.New, salt)
	for _, k := range keys {
		h.Write([]byte{byte(len(k) >> 8), byte(len(k))})
		h.Write(k)
	}
	return h.Sum(nil)
}

// A Dir is the directory of the records, locked.
type Dir = stored.Dir[Connection]

// Open locks the directory in a run directory, as [stored.Open] does; nil: there is none.
func Open(rundir string) (*Dir, error) { return stored.Open[Connection](rundir, directory) }

// Make locks the directory, as [stored.Make] does.
func Make(rundir string) (*Dir, error) { return stored.Make[Connection](rundir, directory) }

// Read returns the records without waiting for the lock; see [stored.Read].
func Read(rundir string) []Connection { return stored.Read[Connection](rundir, directory) }

// Forget removes all records.
func Forget(rundir string) error { return stored.Forget(rundir, directory) }
