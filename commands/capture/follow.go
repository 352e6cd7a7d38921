package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/explain"
	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/internal/reopen"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/afpacket"
	"github.com/klips-go/ipsec/klips/trace"
)

// An item is a packet that was captured and waits to be written.
type item struct {
	index  int // of the device
	device device
	out    bool
	time   time.Time // when the kernel had it
	came   time.Time // when it began to wait
	data   []byte
	length int // before it was cut
	view   view
	reason string // why the stack has dropped it; empty: it has not, or that is not known
}

// Packets wait for a moment before they are written. The stack then has finished with them,
// and reports which one it has dropped.
const (
	settle   = 100 * time.Millisecond
	interval = time.Second // how often the tables are read

	maxWaiting = 4096    // so many packets wait at most,
	maxBytes   = 8 << 20 // with so many bytes
)

// A capturer captures packets.
type capturer struct {
	*request
	env    *cli.Env
	stacks *reopen.Opener
	now    func() time.Time

	stack  klips.Stack // nil: it must be opened
	lost   bool        // the stack could not be read the last time
	tables *tables
	before *tables // the ones before; they have SAs that are gone meanwhile
	drops  drops

	socket  *afpacket.Socket
	buffer  []byte
	devices map[int]device
	ports   []uint16

	waiting []*item
	bytes   int

	sink    sink
	keys    *keyFile // nil: none are written
	written uint64
}

// errEnough: as many packets as were asked for have been written.
var errEnough = errors.New("enough packets")

// open reads the tables, and opens the socket and the files.
func (c *capturer) open(ctx context.Context) (err error) {
	if err := c.read(ctx, true); err != nil {
		return err
	}
	devices := c.tables.devices(c.named)
	for _, name := range c.named {
		if !slices.ContainsFunc(slices.Collect(maps.Values(devices)), func(d device) bool { return d.name == name }) {
			return fmt.Errorf("--interface %s: there is no such device; ip link lists them", quote.Value(name))
		}
	}
	if len(devices) == 0 {
		return errors.New("no virtual device is attached to a physical one; attach one with ipsec tncfg, or name a device with --interface")
	}
	if c.socket, err = openSocket(); err != nil {
		return err
	}
	c.buffer = make([]byte, afpacket.MaxLength)
	if c.sink, err = newSink(c.env, c.request); err != nil {
		return err
	}
	if c.showKeys {
		if c.keys, err = newKeyFile(c.env, c.file+".esp_sa", c.force); err != nil {
			return err
		}
		if err := c.keys.add(ctx, c.stack, c.tables.snapshot); err != nil {
			return err
		}
		cli.Notef(c.env, "the keys of ESP are in %s: copy it to the file esp_sa of a profile of Wireshark", quote.File(c.keys.name))
	}
	return c.setFilter()
}

// close closes what open has opened, except the sink.
func (c *capturer) close() {
	if c.stack != nil {
		c.stack.Close()
	}
	if c.socket != nil {
		c.socket.Close()
	}
	if c.keys != nil {
		c.keys.close()
	}
}

// discard removes the files that open has made, after an error. With --force they may have
// been there before, and stay.
func (c *capturer) discard() {
	if c.sink != nil {
		_ = c.sink.close()
		if !c.force && c.file != "" && c.file != standardOutput {
			os.Remove(c.file)
		}
	}
	if c.keys != nil && !c.force {
		os.Remove(c.keys.name)
	}
}

// setFilter makes the socket receive the packets of the devices in the tables.
func (c *capturer) setFilter() error {
	devices, ports := c.tables.devices(c.named), c.tables.ports()
	if c.devices != nil && maps.Equal(devices, c.devices) && slices.Equal(ports, c.ports) {
		return nil
	}
	f := afpacket.Filter{Ports: ports}
	var names []string
	for index, d := range devices {
		names = append(names, d.name+" ("+d.kind()+")")
		if d.clear {
			f.Whole = append(f.Whole, index)
		} else {
			f.Protected = append(f.Protected, index)
		}
	}
	if err := c.socket.SetFilter(f); err != nil {
		return fmt.Errorf("packets cannot be selected: %w", err)
	}
	switch {
	case c.devices != nil && maps.Equal(devices, c.devices):
	case len(names) == 0:
		cli.Notef(c.env, "no device is left; packets of the next one that comes are captured")
	default:
		slices.Sort(names)
		cli.Notef(c.env, "captures %s", strings.Join(names, ", "))
	}
	c.devices, c.ports = devices, ports
	return nil
}

// kind returns what the packets of a device are.
func (d device) kind() string {
	if d.clear {
		return "in clear"
	}
	return "protected"
}

// follow captures packets until the context ends.
func (c *capturer) follow(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := c.collect(ctx); err != nil {
			return err
		}
		if err := c.step(ctx, c.full()); err != nil {
			return ended(err)
		}
	}
	// What came before the end is written, too.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*interval)
	defer cancel()
	for {
		it, err := c.receive(ctx, c.now())
		if err != nil || c.full() {
			break
		}
		c.add(it)
	}
	if len(c.waiting) > 0 {
		time.Sleep(settle)
	}
	return ended(c.step(last, true))
}

func ended(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// full reports that no more packets may wait.
func (c *capturer) full() bool { return len(c.waiting) >= maxWaiting || c.bytes >= maxBytes }

// collect receives packets until it is time for a step.
func (c *capturer) collect(ctx context.Context) error {
	until := c.now().Add(interval)
	if len(c.waiting) > 0 {
		until = c.now().Add(settle)
	}
	for !c.full() && c.now().Before(until) {
		it, err := c.receive(ctx, until)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), ctx.Err() != nil && errors.Is(err, ctx.Err()):
			return nil
		case err != nil:
			return fmt.Errorf("packets cannot be read any more: %w", err)
		}
		if c.add(it) && len(c.waiting) == 1 {
			until = c.now().Add(settle)
		}
	}
	return nil
}

// receive waits for a packet. The data and the view of the item are valid until the next
// call.
func (c *capturer) receive(ctx context.Context, until time.Time) (*item, error) {
	p, err := c.socket.Receive(ctx, c.buffer, until)
	if err != nil {
		return nil, err
	}
	return &item{index: p.Device, device: c.devices[p.Device], out: p.Out, time: p.Time, came: c.now(), data: p.Data, length: p.Length}, nil
}

// add adds a packet to those that wait, if it is wanted.
func (c *capturer) add(it *item) bool {
	if it.device.name == "" { // the filter was changed after it came
		return false
	}
	it.view = look(it.data, c.ports)
	if len(it.view.headers) == 0 && !it.device.clear || !c.selects(&it.view) {
		return false
	}
	it.data = bytes.Clone(it.data[:min(len(it.data), c.snaplen)])
	c.waiting = append(c.waiting, it)
	c.bytes += len(it.data)
	return true
}

// step reads what has changed, and writes the packets that have waited long enough, or all.
func (c *capturer) step(ctx context.Context, all bool) error {
	if err := c.refresh(ctx); err != nil {
		return err
	}
	now, n := c.now(), 0
	for _, it := range c.waiting {
		if !all && now.Sub(it.came) < settle {
			break
		}
		n++
		c.bytes -= len(it.data)
		s, ok := c.about(it)
		if !ok {
			continue
		}
		if err := c.sink.write(it, s.comment(it.reason)); err != nil {
			return err
		}
		if c.written++; c.written == c.count {
			return errEnough
		}
	}
	c.waiting = slices.Delete(c.waiting, 0, n)
	return c.sink.flush()
}

// comment returns the comment for a packet that was dropped for a reason; empty: it was not,
// or that is not known.
func (s *said) comment(reason string) string {
	l := []string{s.text, s.fate}
	if reason != "" {
		l[1] = "dropped: " + reason
	}
	return strings.Join(slices.DeleteFunc(l, func(text string) bool { return text == "" }), "; ")
}

// about returns what is known about a packet. ok is false if it is not wanted.
func (c *capturer) about(it *item) (s said, ok bool) {
	s, ok = c.tables.about(it)
	if s.unknown && c.before != nil {
		if old, oldOK := c.before.about(it); oldOK && !old.unknown {
			s = old
		}
	}
	return s, ok && (c.said == klips.SAID{} || slices.Contains(s.ids, c.said))
}

func (t *tables) about(it *item) (s said, ok bool) {
	switch {
	case len(it.view.headers) == 0:
		return said{text: "no valid IP packet"}, true
	case it.device.clear:
		return t.inClear(&it.view, it.device.name, it.out), true
	}
	return t.protected(&it.view)
}

// refresh reads the tables, if it is time for that or a packet that waits has an SA that they
// do not have, and finds the packets that were dropped. A stack that has gone is no error:
// what was known about it still is.
func (c *capturer) refresh(ctx context.Context) error {
	age := c.now().Sub(c.tables.time)
	due := age >= interval || age >= settle && slices.ContainsFunc(c.waiting, func(it *item) bool {
		s, _ := c.tables.about(it)
		return s.unknown
	})
	if !due && len(c.waiting) == 0 {
		return nil
	}
	err := c.read(ctx, due)
	switch {
	case err == nil && c.lost:
		cli.Notef(c.env, "the stack is back")
	case err != nil && !c.lost && ctx.Err() == nil:
		cli.Notef(c.env, "%s; packets get the comments of the last tables", explain.Line(err))
	}
	c.lost = err != nil
	if err != nil || !due {
		return nil
	}
	if c.keys != nil {
		if err := c.keys.add(ctx, c.stack, c.tables.snapshot); err != nil { // an SA may be made anew just now
			cli.Notef(c.env, "%s; they are read again", explain.Line(err))
		}
	}
	return c.setFilter()
}

// read reads the newest dropped packets, and the tables if whole is set.
func (c *capturer) read(ctx context.Context, whole bool) (err error) {
	now := c.now()
	if c.stack == nil {
		if c.stack, err = c.stacks.Open(ctx); err != nil {
			return err
		}
		c.DebugStack(c.env, c.stack)
	}
	t, err := c.stack.Snapshot(ctx, klips.Want{SAs: whole, Eroutes: whole, Devices: whole, LastDrops: true})
	if err != nil {
		c.stack.Close()
		c.stack = nil
		return explain.Listing("the tables", err)
	}
	if whole {
		links, addrs, err := readHost()
		if err != nil {
			return err
		}
		c.before, c.tables = c.tables, newTables(now, t, trace.ByFlow(c.stack.Info().Name), links, addrs)
	}
	c.drops.note(t.LastDrops, c.waiting, c.tables)
	return nil
}

// finish closes the files and prints the numbers of packets.
func (c *capturer) finish() error {
	err := c.sink.close()
	_, lost, cerr := c.socket.Counts()
	if cerr != nil {
		return errors.Join(err, cerr)
	}
	noun := "packets"
	if c.written == 1 {
		noun = "packet"
	}
	cli.Notef(c.env, "%d %s; %d more are lost, because they came too fast", c.written, noun, lost)
	return err
}
