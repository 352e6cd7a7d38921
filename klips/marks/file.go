package marks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/arrange"
	"github.com/klips-go/ipsec/klips/internal/wipe"
)

// Max is the maximum number of keys, without those in use.
const Max = 1 << 16

// Unsynced is how many numbers above its mark may be used with a key before
// [File.Sync] has returned.
const Unsynced = 1 << 16

// A Mark is how far the sequence numbers of a key have come. They have 64 bits; if an
// SA uses 32, a larger Sent means that none is left.
type Mark struct {
	Sent     uint64 // no greater number has been sent
	Received uint64 // the highest one received; 0: none, or unknown
}

// A Key identifies a SAID with the algorithms and keys of its SA. The zero Key is for
// SAs without sequence numbers.
type Key [16]byte

// A File is the marks in one directory, which has one writer at a time, from [Open] to
// [File.Close]. Its methods may be called from several goroutines; they can wait for
// the disk.
type File struct {
	dir  *dir
	lock *os.File
	now  func() time.Time

	secret [sha256.Size]byte // never changes

	mu      sync.Mutex
	f       *os.File // nil: the next write makes it
	size    int64    // length in bytes of header and records in f
	marks   table
	floor   uint64 // the mark of unknown keys
	pending []byte // records to be written
	opened  bool   // a record shows that numbers are used before Sync
	behind  bool   // f lacks some of marks, because a write has failed
	unsure  bool   // the disk may lack some of f
}

// An entry is a mark and its state.
type entry struct {
	Mark
	synced uint64 // the Sent that is certain to be in the file
	used   int64  // time of the last change, in seconds since 1970
	users  int    // number of users between Begin and End
}

// Open opens the marks in a directory, and makes both if they do not exist. It waits
// until ctx ends while another process has the marks, and then returns [ErrBusy]. A
// directory that cannot be trusted is a *[DirError].
//
// A foreign or damaged file, or a damaged part, is ignored and not an error: damaged,
// which may be nil, is called with a text about it.
func Open(ctx context.Context, path string, now func() time.Time, damaged func(string)) (*File, error) {
	d, err := makeDir(path)
	if err != nil {
		return nil, err
	}
	return load(ctx, d, now, damaged)
}

// OpenIn is Open for a directory that another process has opened with [Give]. It owns
// the file; path is for errors.
func OpenIn(ctx context.Context, directory *os.File, path string, now func() time.Time, damaged func(string)) (*File, error) {
	d, err := checkDir(directory, path)
	if err != nil {
		return nil, err
	}
	return load(ctx, d, now, damaged)
}

func load(ctx context.Context, d *dir, now func() time.Time, damaged func(string)) (f *File, err error) {
	f = &File{dir: d, now: now}
	if f.lock, err = d.lock(ctx); err == nil {
		err = f.load(damaged)
	}
	if err != nil {
		f.release()
		return nil, err
	}
	return f, nil
}

// release closes all open files.
func (f *File) release() {
	for _, c := range []*os.File{f.f, f.lock, f.dir.f} {
		if c != nil {
			c.Close()
		}
	}
}

// load reads the file. It requests a new one if the file cannot be used, or if the
// machine has crashed after numbers were used that may not be in it.
func (f *File) load(damaged func(string)) error {
	file, err := f.dir.open(marksFile, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return f.begin()
	}
	if err != nil {
		return err
	}
	b, err := read(file)
	if err != nil {
		file.Close()
		return err
	}
	c, ok := parse(b)
	if !ok {
		file.Close()
		if damaged != nil {
			damaged(fmt.Sprintf("%s holds no sequence marks, and was put aside as %s; the numbers of all keys start anew", file.Name(), damagedFile))
		}
		if err := f.dir.rename(marksFile, damagedFile); err != nil {
			return err
		}
		return f.begin()
	}
	if c.bad > 0 && damaged != nil {
		damaged(fmt.Sprintf("%s: %d of %d entries are damaged and left out", file.Name(), c.bad, c.bad+c.good))
	}
	f.f, f.size, f.secret, f.floor, f.marks = file, int64(len(b)), c.secret, c.floor, c.marks
	if c.crashed(bootID()) {
		f.floor = add(f.floor, Unsynced)
		for _, e := range f.marks.all() {
			e.Sent = add(e.Sent, Unsynced)
		}
		return f.rewrite()
	}
	f.opened = c.opened
	if c.bad > 0 || len(b)%recordLen != 0 {
		return f.rewrite()
	}
	return nil
}

// read reads a file into a buffer of its size, at most a little more than maxFile.
func read(file *os.File) ([]byte, error) {
	i, err := file.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(i.Size(), maxFile+1))
	n, err := io.ReadFull(file, b)
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// begin makes the first file.
func (f *File) begin() error {
	rand.Read(f.secret[:]) // never fails
	return f.rewrite()
}

// add adds without wrapping to 0.
func add(n, more uint64) uint64 {
	if n > math.MaxUint64-more {
		return math.MaxUint64
	}
	return n + more
}

// Key returns the Key of the SA that spec makes: of its SAID, algorithms and keys, and
// whether its numbers have 64 bits. It is the zero Key if the SA has no sequence
// numbers or no key. Without the secret it reveals nothing.
func (f *File) Key(spec *klips.SASpec) Key {
	if spec.ID.Proto != klips.ProtoESP && spec.ID.Proto != klips.ProtoAH || len(spec.AuthKey)+len(spec.EncKey) == 0 {
		return Key{}
	}
	wipe.Reserve()
	h := hmac.New(sha256.New, f.secret[:])
	dst := spec.ID.Dst.As16()
	esn := byte(0)
	if spec.ESN {
		esn = 1
	}
	h.Write([]byte{byte(spec.ID.Proto), byte(spec.Auth), byte(spec.Enc), esn})
	h.Write(binary.BigEndian.AppendUint32(dst[:], uint32(spec.ID.SPI)))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(spec.AuthKey))))
	h.Write(spec.AuthKey)
	h.Write(spec.EncKey)
	k := Key(h.Sum(nil)[:len(Key{})])
	wipe.Now(h) // it has copies of the keys
	if k == (Key{}) {
		k[0] = 1
	}
	return k
}

// Begin begins to use a key: its mark stays until [File.End]. Up to Unsynced numbers
// above Sent may be used at once; the file counts them as sent when Begin returns. With
// an error it does not, but the mark is still valid.
func (f *File) Begin(k Key) (Mark, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	if e := f.marks.get(k); e != nil && e.Sent > e.synced {
		err = f.syncLocked() // or two times Unsynced would be missing from the file
	}
	e := f.entryLocked(k)
	m := e.Mark
	e.users++
	if !f.opened {
		f.opened = true
		f.pending = append(f.pending, f.opening()...)
	}
	f.setLocked(k, Mark{add(m.Sent, Unsynced), m.Received})
	return m, errors.Join(err, f.writeLocked())
}

// entryLocked returns the entry of a key, a new one for an unknown key.
func (f *File) entryLocked(k Key) *entry {
	e := f.marks.get(k)
	if e == nil {
		e = &entry{Mark: Mark{Sent: f.floor}, synced: f.floor}
		f.marks.add(k, e)
	}
	return e
}

// Get returns the mark of a key.
func (f *File) Get(k Key) Mark {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.marks.get(k); e != nil {
		return e.Mark
	}
	return Mark{Sent: f.floor}
}

// Set sets the mark of a key; [File.Flush] and [File.Sync] write it.
func (f *File) Set(k Key, m Mark) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setLocked(k, m)
}

func (f *File) setLocked(k Key, m Mark) {
	e := f.entryLocked(k)
	if e.Mark == m && e.used != 0 {
		return
	}
	e.Mark, e.used = m, f.now().Unix()
	f.pending = append(f.pending, record(k, e)...)
}

// End is Set at the end of a use of the key. While others use the key, it does not
// lower the mark.
func (f *File) End(k Key, m Mark) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.entryLocked(k)
	e.users = max(e.users-1, 0)
	if e.users > 0 {
		m = Mark{max(e.Sent, m.Sent), max(e.Received, m.Received)}
	}
	f.setLocked(k, m)
}

// Flush writes all changes. They survive if this process is killed, but perhaps not a
// crash of the machine.
func (f *File) Flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writeLocked()
}

// Sync writes all changes. When it returns nil, they survive a crash of the machine.
func (f *File) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.syncLocked()
}

func (f *File) syncLocked() error {
	if err := f.writeLocked(); err != nil {
		return err
	}
	if !f.unsure {
		return nil
	}
	if err := unix.Fdatasync(int(f.f.Fd())); err != nil {
		f.behind = true // what the disk has is unknown now
		return &fs.PathError{Op: "write", Path: f.f.Name(), Err: err}
	}
	f.unsure = false
	for _, e := range f.marks.m {
		e.synced = e.Sent
	}
	return nil
}

// writeLocked writes pending records; the disk may not have them yet.
func (f *File) writeLocked() error {
	switch {
	case f.behind, f.size+int64(len(f.pending)) > int64(recordLen*(2*f.marks.len()+slack)):
		return f.rewrite()
	case len(f.pending) == 0:
		return nil
	}
	f.unsure = true
	n, err := f.f.WriteAt(f.pending, f.size)
	if err != nil {
		f.behind, f.pending = true, nil // the incomplete part will be overwritten
		return err
	}
	f.size, f.pending = f.size+int64(n), nil
	return nil
}

// slack is how many outdated records a file may have in any case.
const slack = 4096

// rewrite replaces the file with a new one.
func (f *File) rewrite() error {
	f.behind, f.pending = true, nil
	f.forget()
	b := header(f.secret)
	b = append(b, f.floorRecord()...)
	if f.opened {
		b = append(b, f.opening()...)
	}
	for k, e := range f.marks.all() {
		b = append(b, record(k, e)...)
	}
	file, err := f.dir.replace(marksFile, b)
	if err != nil {
		return err
	}
	if f.f != nil {
		f.f.Close()
	}
	f.f, f.size, f.behind, f.unsure = file, int64(len(b)), false, false
	for _, e := range f.marks.m {
		e.synced = e.Sent
	}
	return nil
}

// forget removes the marks that were unused for the longest time if there are too many.
func (f *File) forget() {
	if f.marks.len() <= Max {
		return
	}
	var idle []Key
	all := f.marks.all()
	for k, e := range all {
		if e.users == 0 {
			idle = append(idle, k)
		}
	}
	arrange.Sort(idle, func(a, b Key) int {
		if x, y := all[a].used, all[b].used; x != y {
			return int(max(min(x-y, 1), -1))
		}
		return bytes.Compare(a[:], b[:])
	})
	for _, k := range idle[:min(len(all)-Max, len(idle))] {
		f.marks.remove(k)
	}
}

// Len returns the number of keys.
func (f *File) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.marks.len()
}

// Path returns the path of the directory.
func (f *File) Path() string { return f.dir.path }

// Close writes all changes and lets the next process open the file. The error is that
// of Sync.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unsure = f.unsure || f.opened // an earlier process may have ended without Close
	err := f.syncLocked()
	if err == nil && f.opened {
		// Only after the sync: the disk must not have this record without the earlier
		// ones.
		f.opened = false
		f.pending = append(f.pending, f.closing()...)
		err = f.syncLocked()
	}
	f.release()
	return err
}
