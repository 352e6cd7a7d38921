package icv

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips/alg"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVectors(t *testing.T) {
	for _, tt := range []struct {
		name, key, data, hmac string
		alg                   alg.Auth
		icv                   int
	}{
		{"RFC 2202 MD5 1", strings.Repeat("0b", 16), "Hi There",
			"9294727a3638bb1c13f48ef8158bfc9d", alg.MD5, 12},
		{"RFC 2202 MD5 3", strings.Repeat("aa", 16), strings.Repeat("\xdd", 50),
			"56be34521d144c88dbb8c733f0e8b3f6", alg.MD5, 12},
		{"RFC 2202 SHA-1 1", strings.Repeat("0b", 20), "Hi There",
			"b617318655057264e28bc0b6fb378c8ef146be00", alg.SHA1, 12},
		{"RFC 2202 SHA-1 3", strings.Repeat("aa", 20), strings.Repeat("\xdd", 50),
			"125d7342b9ac11cd91a39af48aa17b4f63f175d3", alg.SHA1, 12},
		{"RFC 4868 AUTH256-1", strings.Repeat("0b", 32), "Hi There",
			"198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7", alg.SHA256, 16},
		{"RFC 4868 AUTH256-1 at 96 bits", strings.Repeat("0b", 32), "Hi There",
			"198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7", alg.SHA256Trunc, 12},
		{"RFC 4868 AUTH256-2", "4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665",
			"what do ya want for nothing?",
			"167f928588c5cc2eef8e3093caa0e87c9ff566a14794aa61648d81621a2a40c6", alg.SHA256, 16},
		{"RFC 4868 AUTH384-1", strings.Repeat("0b", 48), "Hi There",
			"b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee9737a959796489bddbc4c5df61d5b3297b4fb68dab9f1b582c2",
			alg.SHA384, 24},
		{"RFC 4868 AUTH512-1", strings.Repeat("0b", 64), "Hi There",
			"637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8ac2878ebd5803f6f0b61dbce5e251ff8789a4722c1be65aea45fd464e89f8f5b",
			alg.SHA512, 32},
	} {
		m, err := New(tt.alg, unhex(t, tt.key))
		if err != nil {
			t.Errorf("%s: New = %v", tt.name, err)
			continue
		}
		want := unhex(t, tt.hmac)[:tt.icv]
		if m.Size() != tt.icv {
			t.Errorf("%s: Size() = %d, want %d", tt.name, m.Size(), tt.icv)
		}
		for range 2 { // Reset restores the keyed state
			m.Reset()
			m.Write([]byte(tt.data[:3]))
			m.Write([]byte(tt.data[3:]))
			if got := m.Sum(); !bytes.Equal(got, want) {
				t.Errorf("%s: Sum() = %x, want %x", tt.name, got, want)
			}
			if !m.Equal(want) || m.Equal(want[1:]) || m.Equal(append([]byte{want[0] ^ 1}, want[1:]...)) {
				t.Errorf("%s: Equal takes what it should not, or not what it should", tt.name)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	for _, a := range []alg.Auth{alg.AuthNone, 1, 8, 9, 251} {
		if _, err := New(a, nil); !errors.Is(err, ErrAlgorithm) {
			t.Errorf("New(%d) = %v, want ErrAlgorithm", a, err)
		}
	}
	if _, err := New(alg.MD5, make([]byte, 15)); !errors.Is(err, ErrKey) {
		t.Errorf("New with a short key = %v, want ErrKey", err)
	}
}

func TestAllocs(t *testing.T) {
	for _, a := range []alg.Auth{alg.MD5, alg.SHA1, alg.SHA256,
		alg.SHA256Trunc, alg.SHA384, alg.SHA512} {
		info, _ := a.Info()
		m, err := New(a, make([]byte, info.KeyBits[0]/8))
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 1400)
		if n := testing.AllocsPerRun(100, func() { m.Reset(); m.Write(p); m.Sum() }); n != 0 {
			t.Errorf("algorithm %d allocates %v times a packet, want 0", a, n)
		}
	}
}
