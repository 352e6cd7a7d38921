package engine

import "github.com/klips-go/ipsec/klips/user/packet"

// The UDP ports of IKE (RFC 7296 sections 2 and 2.23).
const (
	ikePort  = 500
	nattPort = 4500
)

// Values of the knob ike_bypass.
const (
	bypassPeers = 0
	bypassKLIPS = 1 // all packets from the ports of IKE, as in KLIPS
)

// isIKE reports whether a UDP packet of this host with that source port counts as IKE.
// IKE is sent in clear whatever shunt its eroute has. All programs can send from port
// 4500, and on some systems from port 500. A packet does not count as IKE if a program
// without rights could send it past the eroutes.
func (e *Engine) isIKE(h *packet.Header, port uint16) bool {
	klips := e.knobs.bypass.Load() == bypassKLIPS
	switch port {
	case ikePort:
		return klips || e.ikePort.Load()
	case nattPort:
		return klips || e.sas.IsFarEnd(h.Dst)
	}
	return false
}

// readPorts finds out whether only root can bind the port of IKE.
func (e *Engine) readPorts() { e.ikePort.Store(e.host.UnprivilegedPorts() > ikePort) }
