package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"

	"github.com/klips-go/ipsec/klips/marks"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/clock"
)

// marksState holds the daemon's marks, or the reason why there are none. The daemon
// works without marks.
type marksState struct {
	dir     string
	opened  *os.File // the directory, if another process has opened it; else nil
	problem string   // why another process could not open it; "": it has not tried, or it has opened it
	log     *slog.Logger
	file    *marks.File // nil: none

	mu  sync.Mutex
	why string // why they are not kept at present
}

// open opens the marks if they are configured.
func (m *marksState) open(ctx context.Context, c clock.Clock) {
	if m.dir == "" {
		return
	}
	if m.problem != "" {
		m.lost(errors.New(m.problem))
		return
	}
	// An earlier daemon, or a command for stack xfrm, may still have them.
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	damaged := func(what string) { m.log.Warn("sequence marks are damaged", "what", what) }
	var f *marks.File
	var err error
	if m.opened != nil {
		f, err = marks.OpenIn(ctx, m.opened, m.dir, c.Now, damaged)
	} else {
		f, err = marks.Open(ctx, m.dir, c.Now, damaged)
	}
	if err != nil {
		m.lost(err)
		return
	}
	m.file = f
}

// lost notes that marks cannot be kept, or with nil that they can be again.
func (m *marksState) lost(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.why = ""
		m.log.Info("sequence marks are kept again", "statedir", m.dir)
		return
	}
	m.why = err.Error()
	m.log.Warn("sequence marks are not kept: after a restart with the same keys, sequence numbers start again", "statedir", m.dir, "err", err)
}

func (m *marksState) status(behind int) user.Marks {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := user.Marks{Statedir: m.dir, Lost: m.why, Behind: behind}
	if m.file != nil {
		s.Keys = m.file.Len()
	}
	return s
}

func (m *marksState) close() {
	if m.file == nil {
		return
	}
	if err := m.file.Close(); err != nil && m.status(0).Lost == "" {
		m.lost(err)
	}
}
