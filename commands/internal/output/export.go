package output

import (
	"encoding/hex"
	"net/netip"

	"github.com/klips-go/ipsec/commands/internal/render"
	"github.com/klips-go/ipsec/klips"
)

// A security association as another host, or this one, can make it. It has no counters.
type ExportedSA struct {
	Name
	// The source address of the outer header. Left out for any.
	Source netip.Addr `json:"source,omitzero"`
	// out, in or both, at the end that the object is for.
	Direction string `json:"direction"`
	// The cipher.
	Encryption string `json:"encryption,omitempty" words:"ciphers"`
	// The size of the encryption key, with the salt of a combined mode.
	EncryptionKeyBits int `json:"encryption_key_bits,omitempty"`
	// The encryption key, with the salt of a combined mode at its end: 0x and hexadecimal
	// digits. Only with --show-keys.
	EncryptionKey string `json:"encryption_key,omitempty"`
	// The authentication.
	Authentication string `json:"authentication,omitempty" words:"authentications"`
	// The size of the authentication key.
	AuthenticationKeyBits int `json:"authentication_key_bits,omitempty"`
	// The authentication key. Only with --show-keys.
	AuthenticationKey string `json:"authentication_key,omitempty"`
	// The compression.
	Compression string `json:"compression,omitempty" words:"compressions"`
	// The size of the replay window.
	ReplayWindowPackets uint32 `json:"replay_window_packets,omitempty"`
	// Whether sequence numbers have 64 bits. Left out if they do not.
	ExtendedSequenceNumbers bool `json:"extended_sequence_numbers,omitempty"`
	// The sequence number that counts as the last one sent.
	SentSequenceNumber *uint64 `json:"sent_sequence_number,omitempty"`
	// The sequence number up to which all packets count as received.
	ReceivedSequenceNumber *uint64 `json:"received_sequence_number,omitempty"`
	// The AH headers that it sends over IPv4 are padded to a multiple of 8 bytes.
	PaddedHeader bool `json:"padded_header,omitempty"`
	// The outer headers that it sends have the type of service or the traffic class of
	// the packet inside: DSCP and ECN.
	CopiedTypeOfService bool `json:"copied_type_of_service,omitempty"`
	// After one of these limits the state becomes dying.
	SoftLimits *Limits `json:"soft_limits,omitempty"`
	// After one of these limits the security association is removed.
	HardLimits *Limits `json:"hard_limits,omitempty"`
	// The encapsulation in UDP.
	UDPEncapsulation *UDPEncapsulation `json:"udp_encapsulation,omitempty"`
	// The network device that encrypts or decrypts.
	OffloadDevice string `json:"offload_device,omitempty"`
}

// Security associations that packets pass through one after the other.
type ExportedGroup struct {
	// out, in or both, at the end that the object is for.
	Direction string `json:"direction"`
	// The members, from the innermost to the outermost.
	Members []ExportedSA `json:"members"`
	// The inbound policies: the source and destination of the packets that may come out.
	InboundPolicies []Flow `json:"inbound_policies,omitempty"`
}

// An eroute, without its counter.
type ExportedEroute struct {
	Flow
	// The SAID of the first security association for its packets, or a word such as %drop.
	SAID string `json:"said"`
	// The SAIDs of further security associations over which the packets are spread.
	Also []string `json:"also,omitempty"`
}

// Something that is missing.
type ExportNote struct {
	// What it is about: an SAID, several, or a selector.
	Object string `json:"object"`
	// What is missing, and why, in words.
	Reason string `json:"reason"`
	// Whether the whole object is missing, and not a property of it.
	LeftOut bool `json:"left_out"`
}

// NewExportList returns a Config as a list. Its strings contain the keys that the Config has.
func NewExportList(stack string, peer bool, c *render.Config) List {
	l := ExportList{Head: NewHead(stack), Peer: peer, Groups: []ExportedGroup{}, Devices: []ExportedDevice{}}
	admitted := map[klips.SAID][]Flow{}
	for _, p := range c.Policies {
		admitted[p.ID] = append(admitted[p.ID], newFlow(p.Policy))
	}
	for _, g := range c.Groups {
		e := ExportedGroup{Direction: g[0].Dir.String()}
		for _, sa := range g {
			e.Members = append(e.Members, newExportedSA(sa))
			e.InboundPolicies = append(e.InboundPolicies, admitted[sa.ID]...)
		}
		l.Groups = append(l.Groups, e)
	}
	l.Eroutes = each(c.Eroutes, func(e *klips.Eroute) ExportedEroute {
		return ExportedEroute{newFlow(e.Selector), e.ID.String(), texts(e.Also)}
	})
	for _, d := range c.Devices {
		l.Devices = append(l.Devices, ExportedDevice{d.Name, d.Physical})
	}
	for _, n := range c.Notes {
		l.Notes = append(l.Notes, ExportNote{n.Object, n.Why, n.Left})
	}
	return l
}

// A virtual device that is attached.
type ExportedDevice struct {
	// Its name: ipsec0.
	Device string `json:"device"`
	// The physical device.
	Physical string `json:"physical"`
}

func newExportedSA(sa *render.SA) ExportedSA {
	e := ExportedSA{
		Name: newName(sa.ID), Direction: sa.Dir.String(),
		EncryptionKeyBits: sa.EncKeyBits, AuthenticationKeyBits: sa.AuthKeyBits,
		ReplayWindowPackets: sa.Window, ExtendedSequenceNumbers: sa.ESN,
		SentSequenceNumber: sa.Seq, ReceivedSequenceNumber: sa.ReplaySeq,
		PaddedHeader: sa.Align8, CopiedTypeOfService: sa.CopyTOS,
		SoftLimits: limitsOf(sa.Soft), HardLimits: limitsOf(sa.Hard),
		UDPEncapsulation: newUDPEncapsulation(sa.NATT), OffloadDevice: sa.Offload,
	}
	if sa.Src.IsValid() && !sa.Src.IsUnspecified() {
		e.Source = sa.Src
	}
	if sa.Enc != 0 {
		e.Encryption = sa.Enc.String()
	}
	if sa.Auth != 0 {
		e.Authentication = sa.Auth.String()
	}
	if sa.Comp != 0 {
		e.Compression = sa.Comp.String()
	}
	if len(sa.EncKey) > 0 {
		e.EncryptionKey = "0x" + hex.EncodeToString(sa.EncKey)
	}
	if len(sa.AuthKey) > 0 {
		e.AuthenticationKey = "0x" + hex.EncodeToString(sa.AuthKey)
	}
	return e
}

// limitsOf returns nil if there is no limit.
func limitsOf(l klips.Limits) *Limits {
	limits := Limits{Packets: l.Packets, Bytes: l.Bytes, Allocations: uint64(l.Allocations), AgeSeconds: l.AddTime, UseSeconds: l.UseTime}
	if limits == (Limits{}) {
		return nil
	}
	return &limits
}
