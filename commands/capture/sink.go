package capture

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/commands/internal/cli"
	"github.com/klips-go/ipsec/commands/internal/netdb"
	"github.com/klips-go/ipsec/commands/internal/pcapng"
	"github.com/klips-go/ipsec/commands/internal/quote"
)

// standardOutput is the file name that stands for it.
const standardOutput = "-"

// A sink takes the packets.
type sink interface {
	write(p *item, comment string) error
	flush() error // what was written can be read
	close() error
}

// newSink returns the sink that a command line asks for.
func newSink(env *cli.Env, r *request) (sink, error) {
	application := "ipsec " + env.Version()
	switch r.file {
	case "":
		return &textSink{env: env}, nil
	case standardOutput:
		return newFileSink(env.Out, nil, "standard output", application, r.snaplen)
	}
	f, err := create(r.file, r.force)
	if err != nil {
		return nil, err
	}
	return newFileSink(f, f, quote.File(r.file), application, r.snaplen)
}

// create makes a file that only its owner, the user of this process, can read. It takes the
// place of an existing file, or of a link to one, so that nobody has the new one open already. A
// pipe or a device is written to.
func create(name string, overwrite bool) (f *os.File, err error) {
	info, err := os.Lstat(name)
	switch exists := err == nil; {
	case exists && !overwrite:
		return nil, fmt.Errorf("%s: there is such a file; choose another name, or overwrite it with --force (%w)", quote.File(name), fs.ErrExist)
	case exists && !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink:
		f, err = os.OpenFile(name, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	case exists:
		f, err = os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // mode 0600
		if err == nil {
			if err = os.Rename(f.Name(), name); err != nil {
				err = errors.Join(err, os.Remove(f.Name()), f.Close())
			}
		}
	default:
		f, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return nil, quote.FileError(name, err)
	}
	return f, nil
}

// A fileSink writes a pcapng file.
type fileSink struct {
	name       string
	buffer     *bufio.Writer
	file       io.Closer // nil: it stays open
	writer     *pcapng.Writer
	interfaces map[place]uint32
	snaplen    int
}

// A place is a device in a file. A new device can have the index or the name of an old one.
type place struct {
	index int
	device
}

func newFileSink(out io.Writer, file io.Closer, name, application string, snaplen int) (*fileSink, error) {
	s := &fileSink{name: name, buffer: bufio.NewWriterSize(out, 1<<16), file: file, interfaces: map[place]uint32{}, snaplen: snaplen}
	w, err := pcapng.NewWriter(s.buffer, application)
	s.writer = w
	return s, errors.Join(s.failure(err), s.flush())
}

// failure adds the name of the file to an error.
func (s *fileSink) failure(err error) error {
	if err == nil {
		return nil
	}
	var e *fs.PathError
	if errors.As(err, &e) {
		err = e.Err
	}
	return fmt.Errorf("%s: %w", s.name, err)
}

func (s *fileSink) write(p *item, comment string) (err error) {
	at := place{p.index, p.device}
	n, ok := s.interfaces[at]
	if !ok {
		n, err = s.writer.AddInterface(pcapng.Interface{Name: p.device.name, Description: p.device.kind(), Link: pcapng.LinkRaw, SnapLen: uint32(s.snaplen)})
		if err != nil {
			return s.failure(err)
		}
		s.interfaces[at] = n
	}
	direction := pcapng.Inbound
	if p.out {
		direction = pcapng.Outbound
	}
	return s.failure(s.writer.WritePacket(pcapng.Packet{Interface: n, Time: p.time, Data: p.data, Length: p.length, Direction: direction, Comment: comment}))
}

func (s *fileSink) flush() error { return s.failure(s.buffer.Flush()) }

func (s *fileSink) close() error {
	err := s.flush()
	if s.file == nil {
		return err
	}
	if cerr := s.failure(s.file.Close()); err == nil {
		err = cerr
	}
	return err
}

// A textSink prints lines.
type textSink struct {
	env  *cli.Env
	text strings.Builder
}

func (s *textSink) write(p *item, comment string) error {
	s.text.WriteString(line(p, comment) + "\n")
	return nil
}

func (s *textSink) flush() error {
	if s.text.Len() == 0 {
		return nil
	}
	err := cli.Print(s.env, func(w io.Writer) error {
		_, err := io.WriteString(w, s.text.String())
		return err
	})
	s.text.Reset()
	return err
}

func (s *textSink) close() error { return s.flush() }

// line returns a packet as a line: time, device, direction, addresses, protocol, length and
// the comment.
func line(p *item, comment string) string {
	l := []string{p.time.UTC().Format("15:04:05.000000Z"), p.device.name, "in"}
	if p.out {
		l[2] = "out"
	}
	if len(p.view.headers) > 0 {
		h := &p.view.headers[0]
		l = append(l, end(h.src, h.srcPort), "->", end(h.dst, h.dstPort), netdb.ProtocolName(h.proto))
	}
	return fmt.Sprintf("%s %d bytes: %s", strings.Join(l, " "), p.length, comment)
}

// end returns an address, and a port if there is one.
func end(a netip.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}
