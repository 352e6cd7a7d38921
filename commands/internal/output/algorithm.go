package output

import (
	"fmt"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
)

// An algorithm, with the names that different programs have for it.
type Algorithm struct {
	// encryption, authentication or compression.
	Kind string `json:"kind"`
	// Its word in the other lists.
	Word string `json:"word"`
	// Its name in its RFC.
	Title string `json:"title"`
	// The number of the RFC that describes its use in IPsec. Left out if there is none.
	RFC int `json:"rfc,omitempty"`
	// Its number in PF_KEY messages.
	PFKeyNumber int `json:"pfkey_number"`
	// Its names in command lines. In the name of a transform, some of them take the length
	// of the key in bits: see ipsec_spi(8).
	Names []string `json:"names"`
	// Its part of the name of a transform in listings: _AES.
	ListingName string `json:"listing_name"`
	// Its name in the Linux crypto API. Left out if stack xfrm does not use it.
	KernelName string `json:"kernel_name,omitempty"`
	// Its name in setkey(8).
	SetkeyName string `json:"setkey_name,omitempty"`
	// Its name in Wireshark's table of security associations. Left out if there is none.
	WiresharkName string `json:"wireshark_name,omitempty"`
	// Whether it is a combined mode, which encrypts and authenticates.
	Combined bool `json:"combined,omitempty"`
	// The lengths that keys can have, with the salt. It has no elements if there is no key.
	KeyBits []int `json:"key_bits"`
	// The length of the salt at the end of keys.
	SaltBits int `json:"salt_bits,omitempty"`
	// The length of the initialisation vector in each packet.
	IVBits int `json:"iv_bits,omitempty"`
	// The length of a block of the cipher. Left out for others.
	BlockBits int `json:"block_bits,omitempty"`
	// The length of the integrity check value in each packet.
	ICVBits int `json:"icv_bits,omitempty"`
	// The length of the whole hash.
	HashBits int `json:"hash_bits,omitempty"`
	// Whether the stack has it: yes, no or unknown.
	Available string `json:"available"`
	// The reason why the stack does not have it, or why that is not known.
	Missing string `json:"missing,omitempty"`
	// Uses in which the stack does not have it, if it has it in others.
	Limits []Ability `json:"limits,omitempty"`
	// With --bench: the speed on this machine.
	Speeds []Speed `json:"speeds,omitempty"`
}

// The speed of an algorithm on this machine, on one processor, with the code of stack user
// and packets of 1400 bytes. 1 MB is 1000000 bytes.
type Speed struct {
	// The length of the key, with the salt. Left out if there is no key.
	KeyBits int `json:"key_bits,omitempty"`
	// Packets that are sent: encrypted, authenticated or compressed.
	SendMegabytesPerSecond int `json:"send_megabytes_per_second"`
	// Packets that are received.
	ReceiveMegabytesPerSecond int `json:"receive_megabytes_per_second"`
}

// NewAlgorithm returns the record of the one algorithm of t, without what depends on the
// stack.
func NewAlgorithm(t klips.Transform) Algorithm {
	switch {
	case t.Enc != alg.EncNone:
		i, _ := t.Enc.Info()
		a := newAlgorithm("encryption", uint8(t.Enc), i)
		if a.Combined = i.AEAD; i.AEAD {
			a.SaltBits = alg.SaltBits
		}
		if i.Block > 1 {
			a.BlockBits = 8 * i.Block
		}
		return a
	case t.Auth != alg.AuthNone:
		i, _ := t.Auth.Info()
		a := newAlgorithm("authentication", uint8(t.Auth), i)
		a.HashBits = i.Hash
		return a
	}
	i, _ := t.Comp.Info()
	return newAlgorithm("compression", uint8(t.Comp), i)
}

func newAlgorithm(kind string, number uint8, i alg.Info) Algorithm {
	a := Algorithm{
		Kind: kind, Word: i.Word, Title: i.Title, RFC: i.RFC, PFKeyNumber: int(number),
		Names: i.Names, ListingName: i.Listing, KernelName: i.Kernel, SetkeyName: i.Setkey, WiresharkName: i.Wireshark,
		KeyBits: []int{}, IVBits: 8 * i.IV, ICVBits: 8 * i.ICV, Available: "unknown",
	}
	for _, bits := range i.KeyBits {
		if bits > 0 {
			a.KeyBits = append(a.KeyBits, bits)
		}
	}
	return a
}

// Source returns where the algorithm is described: "RFC 3602".
func (a *Algorithm) Source() string {
	if a.RFC == 0 {
		return "no RFC"
	}
	return fmt.Sprintf("RFC %d", a.RFC)
}
