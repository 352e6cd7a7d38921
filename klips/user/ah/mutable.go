package ah

import "github.com/klips-go/ipsec/klips/user/packet"

// predict changes the IP header p, including extension headers, to the form for the
// ICV: mutable fields are zero, and predictable ones have their values at the receiver
// (RFC 4302 section 3.3.3.1). Sender and receiver compute the same form. The error is
// ErrOptions.
func predict(p []byte, h *packet.Header) error {
	if h.Version == 4 {
		return predict4(p)
	}
	return predict6(p)
}

// predict4 zeroes TOS, flags, fragment offset, TTL and checksum, and those
// options that are not immutable. With a source route the destination is the
// last one of the route.
func predict4(p []byte) error {
	p[1], p[6], p[7], p[8], p[10], p[11] = 0, 0, 0, 0, 0, 0
	for o := p[20:]; len(o) > 0; {
		switch o[0] {
		case 0: // End of Options List; the rest is padding and authenticated
			return nil
		case 1: // No Operation
			o = o[1:]
			continue
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return ErrOptions
		}
		n := int(o[1])
		switch o[0] {
		case 130, 133, 134, 148, 149:
			// Immutable by RFC 4302 appendix A1: security, extended and
			// commercial security, router alert, directed delivery.
		case 131, 137: // loose and strict source route
			if n < 3 || (n-3)%4 != 0 {
				return ErrOptions
			}
			// The pointer counts from 1; if it is after the end, the route is complete.
			if ptr := int(o[2]); n > 3 && ptr <= n-3 {
				copy(p[16:20], o[n-4:n])
			}
			clear(o[:n])
		default:
			clear(o[:n])
		}
		o = o[n:]
	}
	return nil
}

// predict6 zeroes traffic class, flow label, hop limit, and the data of options that
// may change. It puts a type 0 or type 2 routing header (RFC 2460 section 4.4, RFC 6275
// section 6.4) into its form after all hops; other types are accepted only without hops
// left. There cannot be a fragment header: AH is added before fragmentation and checked
// after reassembly.
func predict6(p []byte) error {
	p[0], p[1], p[2], p[3], p[7] = 0x60, 0, 0, 0, 0
	next := p[6]
	for e := p[40:]; len(e) > 0; {
		if len(e) < 8 {
			return ErrOptions
		}
		n := (int(e[1]) + 1) * 8
		if next == packet.ProtoFragment || n > len(e) {
			return ErrOptions
		}
		var err error
		switch next {
		case packet.ProtoHopByHop, packet.ProtoDstOpts:
			err = predictOptions(e[2:n])
		case packet.ProtoRouting:
			err = predictRouting(p, e[:n])
		default:
			err = ErrOptions
		}
		if err != nil {
			return err
		}
		next, e = e[0], e[n:]
	}
	return nil
}

// predictOptions zeroes the data, but neither type nor length, of IPv6 options
// whose type has the bit "data may change" (RFC 8200 section 4.2).
func predictOptions(o []byte) error {
	for len(o) > 0 {
		if o[0] == 0 { // Pad1
			o = o[1:]
			continue
		}
		if len(o) < 2 || 2+int(o[1]) > len(o) {
			return ErrOptions
		}
		n := 2 + int(o[1])
		if o[0]&0x20 != 0 {
			clear(o[2:n])
		}
		o = o[n:]
	}
	return nil
}

// predictRouting changes p like the hops of the routing header r: each hop exchanges
// the destination with its own entry.
func predictRouting(p, r []byte) error {
	left := int(r[3])
	if left == 0 {
		return nil
	}
	if r[2] != 0 && r[2] != 2 {
		return ErrOptions
	}
	count := (len(r) - 8) / 16
	if len(r)%16 != 8 || left > count {
		return ErrOptions
	}
	todo := r[8+16*(count-left):]
	dst := [16]byte(p[24:40])
	copy(p[24:40], todo[len(todo)-16:])
	copy(todo[16:], todo[:len(todo)-16])
	copy(todo, dst[:])
	r[3] = 0
	return nil
}
