package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/testscripts/bed"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// A gate is open while packets of a way may be lost. It also counts the packets.
type gate struct {
	n    atomic.Int32
	sent atomic.Uint64 // number of sent packets
	came atomic.Uint64 // the highest number received, plus one
}

func (g *gate) open()        { g.n.Add(1) }
func (g *gate) close()       { g.n.Add(-1) }
func (g *gate) isOpen() bool { return g.n.Load() > 0 }

// overtaking is how many packets may arrive before one that was sent earlier. Packets
// of a single fragment can overtake others.
const overtaking = 64

// passed reports whether the first mark packets have arrived or are lost: packets that
// were sent well after them have arrived.
func (g *gate) passed(mark uint64) bool { return g.came.Load() > mark+overtaking }

// The UDP packets: their sizes, up to several times the MTU, and the pause after each.
// They are so few that no queue fills up, unless the machine is busy with other things.
var sizes = []int{8, 9, 100, 576, 1000, 1300, 1372, 1400, 1472, 1473, 3000, 9000}

const (
	udpPause  = time.Millisecond
	tcpChunk  = 16 << 10
	tcpPause  = 5 * time.Millisecond
	maxPacket = 1 << 14
)

// A flow is the numbered UDP packets in one direction.
type flow struct {
	in, out *net.UDPConn
	gate    *gate

	sent     []bool // by packet number: whether the gate was open
	mu       sync.Mutex
	got      []uint8 // by packet number: how often it arrived
	bytes    int
	damaged  int
	refused  error // last error of the socket that refused a packet
	received chan struct{}
}

// traffic is all UDP and TCP traffic.
type traffic struct {
	flows   [2]*flow
	quit    chan struct{}
	senders sync.WaitGroup

	stream *net.TCPConn
	sink   net.Conn
	wrote  int64
	read   chan stream
}

// A stream is the data received from the TCP connection.
type stream struct {
	n   int64
	err error
}

func startTraffic(b *bed.Bed, gates [2]*gate) (*traffic, error) {
	t := &traffic{quit: make(chan struct{}), read: make(chan stream, 1)}
	for way := range t.flows {
		f := &flow{gate: gates[way], received: make(chan struct{})}
		t.flows[way] = f
		if err := b.Hosts[1-way].Do(func() error {
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(bed.Inners[1-way])})
			f.in = c
			return err
		}); err != nil {
			return nil, err
		}
		if err := b.Hosts[way].Do(func() error {
			c, err := net.DialUDP("udp4", nil, f.in.LocalAddr().(*net.UDPAddr))
			f.out = c
			return err
		}); err != nil {
			return nil, err
		}
		if err := errors.Join(
			option(f.in, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
			// Without DF no ICMP "too big" is needed, so path MTU discovery loses no
			// packet.
			option(f.out, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT),
		); err != nil {
			return nil, err
		}
	}
	if err := t.connect(b); err != nil {
		return nil, err
	}
	for way, f := range t.flows {
		go f.receive()
		t.senders.Go(func() { f.send(t.quit, way) })
	}
	t.senders.Go(t.write)
	go t.drain()
	return t, nil
}

func option(c *net.UDPConn, level, name, value int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, name, value) })
	return errors.Join(cerr, err)
}

func (t *traffic) connect(b *bed.Bed) error {
	var ln net.Listener
	if err := b.Hosts[1].Do(func() (err error) { ln, err = net.Listen("tcp4", bed.Inners[1]+":0"); return err }); err != nil {
		return err
	}
	defer ln.Close()
	if err := b.Hosts[0].Do(func() (err error) {
		c, err := net.DialTimeout("tcp4", ln.Addr().String(), time.Minute)
		if err == nil {
			t.stream = c.(*net.TCPConn)
		}
		return err
	}); err != nil {
		return err
	}
	var err error
	t.sink, err = ln.Accept()
	return err
}

// fill fills p with the bytes that a packet or a stream has from the position at on.
func fill(p []byte, at uint64) {
	for i := range p {
		v := at + uint64(i)
		p[i] = byte(v ^ v>>8 ^ v>>16)
	}
}

func (f *flow) send(quit <-chan struct{}, way int) {
	p := make([]byte, maxPacket)
	tick := time.NewTicker(udpPause)
	defer tick.Stop()
	for n := uint64(0); ; n++ {
		select {
		case <-quit:
			return
		case <-tick.C:
		}
		size := sizes[(n*7+uint64(way))%uint64(len(sizes))]
		binary.BigEndian.PutUint64(p, n)
		fill(p[8:size], n)
		before := f.gate.isOpen()
		_, err := send(sending.RLocker(), f.out, p[:size])
		if err != nil && !f.gate.isOpen() {
			f.mu.Lock()
			f.refused = err
			f.mu.Unlock()
		}
		f.sent = append(f.sent, before || f.gate.isOpen())
		f.gate.sent.Add(1)
	}
}

// endMark is the last packet of a receiver, sent by its own host. It is shorter than
// all others.
var endMark = []byte{0xee}

// finish ends the receiver after it has read all earlier packets.
func (f *flow) finish(h *lab.Host) error {
	var c net.Conn
	if err := h.Do(func() (err error) { c, err = net.Dial("udp4", f.in.LocalAddr().String()); return err }); err != nil {
		return err
	}
	defer c.Close()
	return lab.Await(func() bool {
		c.Write(endMark) // repeat it if the buffer was full
		select {
		case <-f.received:
			return true
		default:
			return false
		}
	})
}

func (f *flow) receive() {
	defer close(f.received)
	p, want := make([]byte, maxPacket), make([]byte, maxPacket)
	for {
		n, err := f.in.Read(p)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if n == len(endMark) && p[0] == endMark[0] {
			return
		}
		f.mu.Lock()
		if n < 8 {
			f.damaged++
			f.mu.Unlock()
			continue
		}
		seq := binary.BigEndian.Uint64(p)
		fill(want[8:n], seq)
		if seq > 1<<30 || string(p[8:n]) != string(want[8:n]) {
			f.damaged++
		} else {
			for uint64(len(f.got)) <= seq {
				f.got = append(f.got, 0)
			}
			f.got[seq]++
			f.gate.came.Store(uint64(len(f.got)))
			f.bytes += n
		}
		f.mu.Unlock()
	}
}

// judge compares the sent and received packets, and returns how many are missing.
// Sender and receiver must have ended.
func (f *flow) judge(r *report, way int) (lost int) {
	name := fmt.Sprintf("UDP %s > %s", bed.Wires[way], bed.Wires[1-way])
	allowed, twice, came := 0, 0, 0
	var first []int
	for n, open := range f.sent {
		c := uint8(0)
		if n < len(f.got) {
			c = f.got[n]
		}
		switch {
		case c > 1:
			twice++
			came++
		case c == 1:
			came++
		case open:
			allowed++
		default:
			lost++
			if len(first) < 10 {
				first = append(first, n)
			}
		}
	}
	r.say("%s: %d sent, %d came (%d MB), %d lost to run-out groups and a dead daemon, %d lost otherwise %v, %d twice, %d damaged",
		name, len(f.sent), came, f.bytes>>20, allowed, lost, first, twice, f.damaged)
	if twice+f.damaged > 0 {
		r.bad("%s: %d twice, %d damaged", name, twice, f.damaged)
	}
	if f.refused != nil {
		r.bad("%s: a socket refused a packet: %v", name, f.refused)
	}
	if came == 0 || len(f.got) > len(f.sent) {
		r.bad("%s: %d packets came of %d, the last number %d", name, came, len(f.sent), len(f.got)-1)
	}
	return lost
}

func (t *traffic) write() {
	p := make([]byte, tcpChunk)
	for {
		select {
		case <-t.quit:
			return
		case <-time.After(tcpPause):
		}
		fill(p, uint64(t.wrote))
		n, err := send(sending.RLocker(), t.stream, p)
		t.wrote += int64(n)
		if err != nil {
			return
		}
	}
}

func (t *traffic) drain() {
	p, want := make([]byte, 1<<16), make([]byte, 1<<16)
	var s stream
	for {
		n, err := t.sink.Read(p)
		fill(want[:n], uint64(s.n))
		if string(p[:n]) != string(want[:n]) {
			err = fmt.Errorf("other bytes than were sent, near %d", s.n)
		}
		s.n += int64(n)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				s.err = err
			}
			t.read <- s
			return
		}
	}
}

// stop ends the senders, waits for the packets on the way and judges the result.
func (t *traffic) stop(b *bed.Bed) (r report) {
	close(t.quit)
	_ = t.stream.SetWriteDeadline(time.Now().Add(time.Minute))
	t.senders.Wait()
	t.stream.Close()
	select {
	case s := <-t.read:
		r.say("TCP: %d MB", s.n>>20)
		if s.err != nil || s.n != t.wrote || s.n == 0 {
			r.bad("TCP: %d bytes came of %d: %v", s.n, t.wrote, s.err)
		}
	case <-time.After(2 * time.Minute):
		r.bad("TCP: the stream did not end")
	}
	t.sink.Close()
	if err := lab.Await(func() bool { return lab.Idle(b.Hosts[0], b.Hosts[1]) }); err != nil {
		r.bad("the hosts do not come to rest: %v", err)
	}
	lost := 0
	for way, f := range t.flows {
		if err := f.finish(b.Hosts[1-way]); err != nil {
			r.bad("the receiver does not end: %v", err)
		}
		f.in.Close()
		f.out.Close()
		<-f.received
		lost += f.judge(&r, way)
	}
	drops, err := kernelDrops(b)
	r.say("kernel: %d packets dropped for lack of room", drops)
	if err != nil {
		r.bad("the kernel's counters: %v", err)
	}
	if uint64(lost) > drops {
		r.bad("%d UDP packets are lost, and the kernel has dropped %d", lost, drops)
	}
	return r
}
