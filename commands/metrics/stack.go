package metrics

import (
	"github.com/klips-go/ipsec/commands/internal/openmetrics"
	"github.com/klips-go/ipsec/klips"
)

// writeStack writes the metrics of the whole stack.
func (t *tables) writeStack(w *openmetrics.Writer) {
	w.Begin(openmetrics.Family{Name: "ipsec_build", Type: openmetrics.Info, Help: "The version of the program that prints these metrics."})
	w.Sample(1, openmetrics.Label{Name: "version", Value: t.program})
	w.Begin(openmetrics.Family{Name: "ipsec_stack", Type: openmetrics.Info, Help: "The stack and its version line."})
	w.Sample(1, openmetrics.Label{Name: "stack", Value: t.stack}, openmetrics.Label{Name: "version", Value: t.version})
	w.Begin(openmetrics.Family{Name: "ipsec_stack_drops", Type: openmetrics.Counter,
		Help: "Dropped packets that belong to no device. On stack xfrm, all that the kernel has dropped in this network namespace."})
	writeDrops(w, t.drops)
	w.Begin(openmetrics.Family{Name: "ipsec_kernel_drops", Type: openmetrics.Counter, Help: "The same packets of stack xfrm by the kernel's own counters (/proc/net/xfrm_stat)."})
	for _, k := range t.kernel {
		w.Sample(k.Packets, openmetrics.Label{Name: "counter", Value: k.Counter}, openmetrics.Label{Name: "reason", Value: k.Reason})
	}
	w.Begin(openmetrics.Family{Name: "ipsec_unreadable_lines", Type: openmetrics.Gauge, Help: "Lines of the tables of a KLIPS kernel that cannot be read, and so are in no other metric."})
	unread := map[string]uint64{}
	for _, l := range t.unread {
		unread[l.Table]++
	}
	for _, table := range klips.TextTables {
		if n := unread[table]; n > 0 {
			w.Sample(n, openmetrics.Label{Name: "table", Value: table})
		}
	}
}

// writeNumbers writes how many objects of each kind there are. It comes last: by then, short
// tables have been read.
func (t *tables) writeNumbers(w *openmetrics.Writer) error {
	var sas, groups, eroutes, attached uint64
	if err := t.sas.each(func(s *sa) {
		sas++
		groups += openmetrics.Bool(s.last) // each has one
	}); err != nil {
		return err
	}
	if err := t.eroutes.each(func(*eroute) { eroutes++ }); err != nil {
		return err
	}
	for i := range t.devices {
		attached += openmetrics.Bool(t.devices[i].Physical != "")
	}
	for _, n := range [...]struct {
		name, help string
		n          uint64
	}{
		{"ipsec_sas", "Security associations.", sas},
		{"ipsec_groups", "Groups of security associations. One without a group is a group of its own.", groups},
		{"ipsec_eroutes", "Eroutes.", eroutes},
		{"ipsec_attached_devices", "Virtual devices that are attached to a physical one.", attached},
	} {
		w.Begin(openmetrics.Family{Name: n.name, Type: openmetrics.Gauge, Help: n.help})
		w.Sample(n.n)
	}
	return nil
}
