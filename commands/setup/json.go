package setup

import (
	"github.com/klips-go/ipsec/commands/internal/output"
	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/user"
	"github.com/klips-go/ipsec/klips/user/confine"
	"github.com/klips-go/ipsec/klips/user/engine"
)

// statusList returns the status of a stack for programs.
func statusList(stack string, s output.Status) output.SetupList {
	return output.SetupList{Head: output.NewHead(stack), Status: []output.Status{s}}
}

// daemonStatus returns the status of a daemon.
func daemonStatus(s user.Status) output.Status {
	return output.Status{
		Running: true, PID: s.PID, Version: s.Version, RunDirectory: s.Rundir, UptimeSeconds: &s.Uptime,
		SACount: &s.SAs, ErouteCount: &s.Eroutes, Devices: output.Devices(s.Devices), Knobs: knobTexts(s.Knobs),
		Holds:       &output.Holds{Held: s.Holds.Held, Max: s.Holds.Max, Expired: s.Holds.Expired, Evicted: s.Holds.Evicted},
		Unprotected: output.NewUnprotected(s.Unprotected), SequenceMarks: marks(&s.Marks), UnreadMessages: s.Dropped,
		Drops: s.Drops, Process: process(s.Rights),
	}
}

// process returns nil for nil.
func process(r *confine.Rights) *output.Process {
	if r == nil {
		return nil
	}
	p := &output.Process{UserID: r.UID, User: r.User, Capabilities: r.Capabilities, GivenUp: []string{}, NotGivenUp: []output.Refusal{}}
	for _, w := range r.Without {
		p.GivenUp = append(p.GivenUp, string(w))
	}
	for _, f := range r.Refused {
		p.NotGivenUp = append(p.NotGivenUp, output.Refusal{Right: string(f.Right), Reason: f.Why})
	}
	return p
}

// stoppedDaemon returns the status if no daemon runs.
func stoppedDaemon(rundir string, left []engine.LeftLink) output.Status {
	s := output.Status{RunDirectory: rundir, DevicesLeft: []string{}}
	for _, l := range left {
		s.DevicesLeft = append(s.DevicesLeft, l.Name)
	}
	return s
}

// missing returns the status of a kernel's stack that is not available.
func missing(stack, why string) output.SetupList {
	return statusList(stack, output.Status{Reason: why})
}

// json returns the status of a kernel's stack for programs.
func (st *kernelStatus) json() output.SetupList {
	list := statusList(st.Stack, output.Status{
		Running: true, Version: st.Version, SACount: &st.SAs, ErouteCount: &st.Eroutes,
		Devices: output.Devices(st.Devices), Knobs: knobTexts(st.Knobs),
		Unprotected: output.NewUnprotected(st.Unprotected), SequenceMarks: marks(st.Marks), Drops: st.Drops,
		Abilities: output.Abilities(st.Abilities.List), AbilitiesProblem: st.NotKnown,
	})
	list.LinkFaults, list.Unread = output.LinkFaults(st.Links), output.UnreadLines(st.Unread)
	return list
}

// marks returns nil for nil.
func marks(m *user.Marks) *output.SequenceMarks {
	if m == nil {
		return nil
	}
	return &output.SequenceMarks{Directory: m.Statedir, Problem: m.Lost, Keys: m.Keys, Behind: m.Behind}
}

// knobTexts returns the values of knobs in the form of set.
func knobTexts(knobs []klips.Knob) map[string]string {
	texts := make(map[string]string, len(knobs))
	for _, k := range knobs {
		texts[k.Name] = kindOf(k.Name).text(k.Value)
	}
	return texts
}
