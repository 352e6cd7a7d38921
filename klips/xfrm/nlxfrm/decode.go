package nlxfrm

import "fmt"

// A Change is what a request asks for, decoded from its message, for tables in memory
// that tests use in place of a kernel. One of State, Policy, ID and Key is the object.
type Change struct {
	Add    bool    // the object must not exist; with State and Policy only
	State  *State  // to be added or updated, with copies of the keys
	Policy *Policy // to be added or replaced
	ID     ID      // of the state to be removed
	Mark   Mark    // of that state
	Key    *PolicyKey
}

// Change decodes the request. It returns an error for a request that cannot be sent.
func (r Request) Change() (c Change, err error) {
	if err := r.refused(); err != nil {
		return c, err
	}
	c.Add = r.typ == msgNewSA || r.typ == msgNewPolicy
	switch r.typ {
	case msgNewSA, msgUpdSA:
		c.State, err = parseState(r.data)
	case msgNewPolicy, msgUpdPolicy:
		c.Policy, err = parsePolicy(r.data)
	case msgDelSA:
		c.ID, c.Mark, err = parseStateID(r.data)
	case msgDelPolicy:
		c.Key, err = parsePolicyKey(r.data)
	default:
		err = fmt.Errorf("a request of type %#x changes neither a state nor a policy", uint16(r.typ))
	}
	return c, err
}

// parseStateID is the reverse of encodeStateID.
func parseStateID(b []byte) (id ID, m Mark, err error) {
	if len(b) < userSAIDLen {
		return id, m, malformed("ID of %d bytes, want %d", len(b), userSAIDLen)
	}
	id.getUser(b)
	var walk error
	for typ, p := range attrs(b[userSAIDLen:], &walk) {
		if typ == attrMark {
			if err := m.get(p); err != nil {
				return id, m, err
			}
		}
	}
	return id, m, walk
}

// parsePolicyKey is the reverse of PolicyKey.encode.
func parsePolicyKey(b []byte) (*PolicyKey, error) {
	if len(b) < policyIDLen {
		return nil, malformed("key of %d bytes, want %d", len(b), policyIDLen)
	}
	p := Policy{Index: native.Uint32(b[56:]), Dir: Dir(b[60])}
	if err := p.Selector.get(b); err != nil {
		return nil, err
	}
	var walk error
	for typ, v := range attrs(b[policyIDLen:], &walk) {
		if err := p.parseAttr(typ, v); err != nil {
			return nil, err
		}
	}
	k := p.Key()
	k.Index = p.Index
	return &k, walk
}
