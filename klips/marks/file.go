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
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/internal/wipe"
)

// Max is how many keys are remembered, but for those in use.
const Max = 1 << 16

// Unsynced is how many numbers above its mark may be used with a key before
// [File.Sync] has returned.
const Unsynced = 1 << 16

// A Mark is how far the sequence numbers of a key have come. They have 64 bits; where
// an SA uses 32, who asks sees by a larger Sent that none is left.
type Mark struct {
	Sent     uint64 // none above it has been sent
	Received uint64 // the highest one received; 0: none, or it is not known
}

// A Key stands for a SAID with the algorithms and keys of its SA. The zero Key stands
// for SAs that have no numbers.
type Key [16]byte

// A File is the marks of one directory, which has one writer at a time: from [Open]
// to [File.Close]. Its methods may be called from several goroutines; they can wait for
// the disk.
type File struct {
	dir  *dir
	lock *os.File
	now  func() time.Time

	secret [sha256.Size]byte // never changes

	mu      sync.Mutex
	f       *os.File // nil: to be made by the next write
	size    int64    // bytes of f that are records and header
	marks   map[Key]*entry
	floor   uint64 // the mark of unknown keys
	pending []byte // records that are to be written
	opened  bool   // a record says that numbers are used before Sync
	behind  bool   // f lacks what marks has, since a write has failed
	unsure  bool   // the disk may lack what f has
}

// An entry is a mark and what becomes of it.
type entry struct {
	Mark
	synced uint64 // Sent as it is certain to be in the file
	used   int64  // when it was changed, in seconds since 1970
	users  int    // those between Begin and End
}

// Open opens the marks in a directory, both of which it makes if there are none. It
// waits until ctx ends for another one to close them; the error is [ErrBusy] then. A
// directory that cannot be trusted is a *[DirError].
//
// A file, or a part of it, that this package has not written is not used and not an
// error: damaged, which may be nil, is told in words what is wrong.
func Open(ctx context.Context, path string, now func() time.Time, damaged func(string)) (*File, error) {
	d, err := makeDir(path)
	if err != nil {
		return nil, err
	}
	f := &File{dir: d, now: now}
	if f.lock, err = d.lock(ctx); err == nil {
		err = f.load(damaged)
	}
	if err != nil {
		f.release()
		return nil, err
	}
	return f, nil
}

// release closes what is open.
func (f *File) release() {
	for _, c := range []*os.File{f.f, f.lock, f.dir.f} {
		if c != nil {
			c.Close()
		}
	}
}

// load reads the file, and has a new one made where there is none that can be used, or
// where the machine has crashed since numbers were used that may not be in it.
func (f *File) load(damaged func(string)) error {
	f.marks = map[Key]*entry{}
	file, err := f.dir.open(marksFile, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return f.begin()
	}
	if err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(file, maxFile+1))
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
		for _, e := range f.marks {
			e.Sent = add(e.Sent, Unsynced)
		}
		return f.rewrite()
	}
	f.opened = c.opened
	for _, e := range f.marks {
		e.synced = e.Sent
	}
	if c.bad > 0 || len(b)%recordLen != 0 {
		return f.rewrite()
	}
	return nil
}

// begin makes the first file.
func (f *File) begin() error {
	rand.Read(f.secret[:]) // never fails
	return f.rewrite()
}

// add is a sum that does not start again from 0.
func add(n, more uint64) uint64 {
	if n > math.MaxUint64-more {
		return math.MaxUint64
	}
	return n + more
}

// Key returns what stands for the SA that spec makes: its SAID, algorithms and keys,
// and whether its numbers have 64 bits. It is the zero Key where the SA has no sequence
// numbers or no key. It tells nothing to who does not know the secret.
func (f *File) Key(spec *klips.SASpec) Key {
	if spec.ID.Proto != klips.ProtoESP && spec.ID.Proto != klips.ProtoAH || len(spec.AuthKey)+len(spec.EncKey) == 0 {
		return Key{}
	}
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
// above Sent may be used at once; the file has them as sent when Begin returns. The
// error says why it has not; the mark holds all the same.
func (f *File) Begin(k Key) (Mark, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	if e := f.marks[k]; e != nil && e.Sent > e.synced {
		err = f.syncLocked() // or two times Unsynced would not be in the file
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
	e := f.marks[k]
	if e == nil {
		e = &entry{Mark: Mark{Sent: f.floor}, synced: f.floor}
		f.marks[k] = e
	}
	return e
}

// Get returns the mark of a key.
func (f *File) Get(k Key) Mark {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.marks[k]; e != nil {
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

// End is Set for one who uses the key no longer. While others use it, it does not take
// the mark down.
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

// Flush writes what has been set. It is there when this process is killed; after a crash
// of the machine the disk may not have it.
func (f *File) Flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writeLocked()
}

// Sync writes what has been set. When it returns nil, a crash of the machine leaves it.
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
		f.behind = true // what the disk has of it is not known any more
		return &fs.PathError{Op: "write", Path: f.f.Name(), Err: err}
	}
	f.unsure = false
	for _, e := range f.marks {
		e.synced = e.Sent
	}
	return nil
}

// writeLocked writes what is pending; the disk may not have it yet.
func (f *File) writeLocked() error {
	switch {
	case f.behind, f.size+int64(len(f.pending)) > int64(recordLen*(2*len(f.marks)+slack)):
		return f.rewrite()
	case len(f.pending) == 0:
		return nil
	}
	f.unsure = true
	n, err := f.f.WriteAt(f.pending, f.size)
	if err != nil {
		f.behind, f.pending = true, nil // what is there of it is overwritten
		return err
	}
	f.size, f.pending = f.size+int64(n), nil
	return nil
}

// slack is how many records a file may have that do not count, however few count.
const slack = 4096

// rewrite puts a new file in the place of the old one.
func (f *File) rewrite() error {
	f.behind, f.pending = true, nil
	f.forget()
	b := header(f.secret)
	b = append(b, f.floorRecord()...)
	if f.opened {
		b = append(b, f.opening()...)
	}
	for k, e := range f.marks {
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
	for _, e := range f.marks {
		e.synced = e.Sent
	}
	return nil
}

// forget drops the marks that were not used for the longest time where there are too
// many.
func (f *File) forget() {
	if len(f.marks) <= Max {
		return
	}
	var idle []Key
	for k, e := range f.marks {
		if e.users == 0 {
			idle = append(idle, k)
		}
	}
	slices.SortFunc(idle, func(a, b Key) int {
		if x, y := f.marks[a].used, f.marks[b].used; x != y {
			return int(max(min(x-y, 1), -1))
		}
		return bytes.Compare(a[:], b[:])
	})
	for _, k := range idle[:min(len(f.marks)-Max, len(idle))] {
		delete(f.marks, k)
	}
}

// Len returns how many keys are remembered.
func (f *File) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.marks)
}

// Path returns the path of the directory.
func (f *File) Path() string { return f.dir.path }

// Close writes what has been set and lets the next one open the file. The error is
// that of Sync.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unsure = f.unsure || f.opened // a process before may have ended without Close
	err := f.syncLocked()
	if err == nil && f.opened {
		// Only now, or the disk might have this and not what comes before it.
		f.opened = false
		f.pending = append(f.pending, f.closing()...)
		err = f.syncLocked()
	}
	f.release()
	return err
}
