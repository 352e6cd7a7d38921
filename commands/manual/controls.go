package manual

import (
	"errors"
	"fmt"

	"github.com/klips-go/ipsec/commands/internal/quote"
	"github.com/klips-go/ipsec/commands/internal/sysctls"
	"github.com/klips-go/ipsec/commands/manual/conf"
	"github.com/klips-go/ipsec/commands/manual/host"
)

// controls returns the parameters of the kernel that a file sets in config setup:
// forwardcontrol= and, for the physical devices of interfaces=, rp_filter=.
func controls(file *conf.File, bindings []host.Binding) (list []sysctls.Setting, err error) {
	forward, err := yes(file.Setup("forwardcontrol"))
	if err != nil {
		return nil, err
	}
	if forward {
		list = append(list, sysctls.Setting{Name: "net/ipv4/ip_forward", Value: "1"})
	}
	p := file.Setup("rp_filter")
	switch p.Value {
	case "", "%unchanged":
		return list, nil
	case "0", "1", "2":
	default:
		return nil, p.Error(quote.Value(p.Value) + ": write %unchanged, 0, 1 or 2")
	}
	for _, b := range bindings {
		if b.Physical != "" {
			list = append(list, sysctls.Setting{Name: "net/ipv4/conf/" + b.Physical + "/rp_filter", Value: p.Value})
		}
	}
	return list, nil
}

// control sets the parameters of the kernel that files ask for, when connections of them have
// come up. It is the last step, so that nothing is set if another one is refused.
func control(h host.Host, files ...*configuration) error {
	var errs []error
	done := map[*configuration]bool{}
	for _, f := range files {
		if f == nil || done[f] || len(f.controls) == 0 {
			continue
		}
		done[f] = true
		if err := h.SetControls(f.controls); err != nil {
			errs = append(errs, fmt.Errorf("%s: config setup: a parameter of the kernel is not set: %w; set it before, with sysctl(8)", quote.File(f.file.Name()), err))
		}
	}
	return errors.Join(errs...)
}
