package output

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/pfkey"
)

// A security association. See ipsec_spi(5) for the meaning of the values.
type SA struct {
	Name
	// The source address of the outer header, or the address that packets must come
	// from. 0.0.0.0 or :: means any.
	Source netip.Addr `json:"source,omitzero"`
	// out, in or both. It is in if the destination was an address of the host when the
	// security association was made, and both if it is a multicast group and there is no
	// source.
	Direction string `json:"direction"`
	// larval, mature, dying (a soft limit has passed) or dead.
	State string `json:"state"`
	// The name of the transform in listings: ESP_AES_HMAC_SHA1.
	Transform string `json:"transform"`
	// The cipher.
	Encryption string `json:"encryption,omitempty" words:"ciphers"`
	// The size of the encryption key, with the salt of a combined mode.
	EncryptionKeyBits int `json:"encryption_key_bits,omitempty"`
	// The authentication.
	Authentication string `json:"authentication,omitempty" words:"authentications"`
	// The size of the authentication key.
	AuthenticationKeyBits int `json:"authentication_key_bits,omitempty"`
	// The compression.
	Compression string `json:"compression,omitempty" words:"compressions"`
	// The initialisation vector of the next packet, for ciphers that chain blocks: 0x
	// and hexadecimal digits.
	IV string `json:"iv,omitempty"`

	// Whether sequence numbers have 64 bits. Left out if they do not.
	ExtendedSequenceNumbers bool `json:"extended_sequence_numbers,omitempty"`
	// The AH headers that it sends over IPv4 are padded to a multiple of 8 bytes.
	PaddedHeader bool `json:"padded_header,omitempty"`
	// The outer headers that it sends have the type of service or the traffic class of
	// the packet inside: DSCP and ECN.
	CopiedTypeOfService bool `json:"copied_type_of_service,omitempty"`
	// The sequence number last sent, or the highest received.
	SequenceNumber uint64 `json:"sequence_number,omitempty"`
	// The length of the longest packets, with all headers, that the path to its destination
	// carries, if a router has reported that in the last ten minutes. Only on stack user.
	PathMTUBytes int `json:"path_mtu_bytes,omitempty"`
	// The size of the replay window.
	ReplayWindowPackets uint32 `json:"replay_window_packets,omitempty"`
	// The newest 64 bits of the replay window: 0x and hexadecimal digits. Bit 0 stands
	// for the packet with sequence_number, bit 1 for the one before it; a set bit means
	// received.
	ReplayBitmap string `json:"replay_bitmap,omitempty"`
	// The largest number of sequence numbers that were skipped at once.
	LargestSequenceGap uint32 `json:"largest_sequence_gap,omitempty"`

	// Packets that the replay window refused.
	ReplayErrors uint32 `json:"replay_errors,omitempty"`
	// Those of them whose sequence numbers were already used by an earlier security
	// association with this key: replayed packets, or packets of a peer that has
	// started again.
	BelowMark uint32 `json:"below_mark,omitempty"`
	// Packets whose authentication failed.
	AuthenticationErrors uint32 `json:"authentication_errors,omitempty"`
	// Packets whose length is not possible for the cipher.
	SizeErrors uint32 `json:"size_errors,omitempty"`
	// Packets with wrong padding.
	PaddingErrors uint32 `json:"padding_errors,omitempty"`
	// Packets that were not sent because their sequence numbers could not be reserved
	// in time.
	SequenceWaits uint32 `json:"sequence_waits,omitempty"`
	// Packets that were dropped at it, by reason. See ipsec_look(8) for the reasons.
	Drops map[string]uint64 `json:"drops,omitempty"`

	// Seconds since it was made.
	AgeSeconds uint64 `json:"age_seconds"`
	// Seconds since its first packet. Left out before that.
	UseSeconds *uint64 `json:"use_seconds,omitempty"`
	// Seconds since its last packet. Left out before the first.
	IdleSeconds *uint64 `json:"idle_seconds,omitempty"`
	// Packets that it has processed.
	Packets uint64 `json:"packets"`
	// Bytes that it has processed.
	Bytes uint64 `json:"bytes"`
	// How far the number of bytes is below zero; bytes is 0 then. Only a KLIPS kernel
	// has such numbers.
	BytesBelowZero uint64 `json:"bytes_below_zero,omitempty"`
	// How many flows use it, which is always 1.
	Allocations uint64 `json:"allocations"`
	// After one of these limits the state becomes dying.
	SoftLimits *Limits `json:"soft_limits,omitempty"`
	// After one of these limits the security association is removed.
	HardLimits *Limits `json:"hard_limits,omitempty"`

	// Bytes before compression, for comp SAs.
	UncompressedBytes uint64 `json:"uncompressed_bytes,omitempty"`
	// The same bytes after it.
	CompressedBytes uint64 `json:"compressed_bytes,omitempty"`
	// The encapsulation in UDP.
	UDPEncapsulation *UDPEncapsulation `json:"udp_encapsulation,omitempty"`
	// The address and the UDP port that the newest packets of the peer come from, if they are
	// not those of the security association: a NAT on the way uses them. Only on stack user.
	HeardFrom string `json:"heard_from,omitempty"`
	// The inbound policy: the source and destination of inner packets.
	InboundPolicy *Flow `json:"inbound_policy,omitempty"`
	// The SAIDs that follow in its group, in the order in which packets pass through
	// them.
	Next []string `json:"next,omitempty"`
	// The SAIDs of other security associations with the same key of a combined mode, at
	// most four. Each of them should have its own key.
	SameKey []string `json:"same_key,omitempty"`
	// The network device that encrypts or decrypts.
	OffloadDevice string `json:"offload_device,omitempty"`
	// The virtual device that it is bound to.
	VirtualDevice string `json:"virtual_device,omitempty"`
	// Flags of PF_KEY: pfs, replaceflow, clearflow, inflow (there is an inbound policy)
	// and policyonly. 0x and hexadecimal digits stand for other bits.
	Flags []string `json:"flags,omitempty"`
	// The number of references to it.
	ReferenceCount int `json:"reference_count"`
	// Its reference number.
	Reference uint32 `json:"reference,omitempty"`
	// The reference number of the peer's security association.
	PeerReference uint32 `json:"peer_reference,omitempty"`
}

// SAs are SAs as records.
func SAs(l []klips.SA) []SA { return each(l, newSA) }

func newSA(sa *klips.SA) SA {
	s := SA{
		Name: newName(sa.ID), Source: sa.Src, Direction: sa.Dir.String(), State: sa.State.String(),
		Transform:         sa.Transform.Name(sa.ID.Proto),
		EncryptionKeyBits: sa.EncKeyBits, AuthenticationKeyBits: sa.AuthKeyBits,

		PaddedHeader: sa.Align8, CopiedTypeOfService: sa.CopyTOS,

		ExtendedSequenceNumbers: sa.ESN, SequenceNumber: sa.Seq, ReplayWindowPackets: sa.Window, PathMTUBytes: sa.PathMTU,
		LargestSequenceGap: sa.MaxSeqDiff,
		ReplayErrors:       sa.ReplayErrs, BelowMark: sa.BelowMark, AuthenticationErrors: sa.AuthErrs,
		SizeErrors: sa.SizeErrs, PaddingErrors: sa.PadErrs, SequenceWaits: sa.SeqWaits, Drops: sa.Drops,

		AgeSeconds: sa.Life.AddTime.Count, Packets: sa.Life.Packets.Count, Bytes: sa.Life.Bytes.Count,
		BytesBelowZero: sa.Life.Bytes.Below, Allocations: sa.Life.Allocations.Count,
		SoftLimits: newLimits(&sa.Life, func(c *klips.Counter) uint64 { return c.Soft }),
		HardLimits: newLimits(&sa.Life, func(c *klips.Counter) uint64 { return c.Hard }),

		UncompressedBytes: sa.Uncompressed, CompressedBytes: sa.Compressed,
		UDPEncapsulation: newUDPEncapsulation(sa.NATT),
		Next:             texts(sa.Next), SameKey: texts(sa.SameKey),
		OffloadDevice: sa.Offload, Flags: flagWords(sa.Flags),
		ReferenceCount: sa.RefCount, Reference: sa.Ref, PeerReference: sa.RefHim,
	}
	if sa.Transform.Enc != 0 {
		s.Encryption = sa.Transform.Enc.String()
	}
	if sa.Transform.Auth != 0 {
		s.Authentication = sa.Transform.Auth.String()
	}
	if sa.Transform.Comp != 0 {
		s.Compression = sa.Transform.Comp.String()
	}
	if len(sa.IV) > 0 {
		s.IV = "0x" + hex.EncodeToString(sa.IV)
	}
	if sa.Bitmap != 0 {
		s.ReplayBitmap = fmt.Sprintf("%#x", sa.Bitmap)
	}
	if sa.Used {
		s.UseSeconds = new(sa.Life.UseTime.Count)
		s.IdleSeconds = new(uint64(max(sa.Idle, 0) / time.Second))
	}
	if sa.Policy != nil {
		s.InboundPolicy = new(newFlow(*sa.Policy))
	}
	if sa.HeardAddr.IsValid() {
		s.HeardFrom = sa.HeardFrom().String()
	}
	if sa.OutIf != 0 {
		s.VirtualDevice, _ = pfkey.OutIf(sa.OutIf)
	}
	return s
}

// Limits of a security association. A missing limit does not exist.
type Limits struct {
	// Packets processed.
	Packets uint64 `json:"packets,omitempty"`
	// Bytes processed.
	Bytes uint64 `json:"bytes,omitempty"`
	// Flows that use it.
	Allocations uint64 `json:"allocations,omitempty"`
	// Seconds since it was made.
	AgeSeconds uint64 `json:"age_seconds,omitempty"`
	// Seconds since its first packet.
	UseSeconds uint64 `json:"use_seconds,omitempty"`
}

// newLimits returns nil if there is no limit.
func newLimits(l *klips.Life, of func(*klips.Counter) uint64) *Limits {
	limits := Limits{
		Packets: of(&l.Packets), Bytes: of(&l.Bytes), Allocations: of(&l.Allocations),
		AgeSeconds: of(&l.AddTime), UseSeconds: of(&l.UseTime),
	}
	if limits == (Limits{}) {
		return nil
	}
	return &limits
}

// The encapsulation of ESP in UDP.
type UDPEncapsulation struct {
	// nonesp (RFC 3948), nonike (the drafts before it) or none.
	Form string `json:"form"`
	// The UDP port of the security association's source, 0 for none.
	SourcePort uint16 `json:"source_port"`
	// The UDP port of its destination, 0 for none.
	DestinationPort uint16 `json:"destination_port"`
	// The address of the peer on its side of the NAT.
	OriginalAddress netip.Addr `json:"original_address,omitzero"`
}

// newUDPEncapsulation returns nil if there is no encapsulation.
func newUDPEncapsulation(n klips.NATT) *UDPEncapsulation {
	if n == (klips.NATT{}) {
		return nil
	}
	return &UDPEncapsulation{n.Type.String(), n.SPort, n.DPort, n.OA}
}

// flagWords returns the words for flags, and the bits that have no word.
func flagWords(flags uint32) (words []string) {
	for _, f := range [...]struct {
		bit  uint32
		word string
	}{
		{klips.FlagPFS, "pfs"}, {klips.FlagReplaceFlow, "replaceflow"}, {klips.FlagClearFlow, "clearflow"},
		{klips.FlagInFlow, "inflow"}, {klips.FlagPolicyOnly, "policyonly"},
	} {
		if flags&f.bit != 0 {
			words = append(words, f.word)
			flags &^= f.bit
		}
	}
	if flags != 0 {
		words = append(words, fmt.Sprintf("%#x", flags))
	}
	return words
}
