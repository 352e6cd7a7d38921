package classic_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/alg"
	"github.com/klips-go/ipsec/klips/classic"
)

// libreswan is pf_key_supported of libreswan 3.32's module in Linux 4.19.
const libreswan = `satype exttype alg_id ivlen minbits maxbits name
     2      14      3     0     160     160              unknown
     2      14      2     0     128     128              unknown
     3      14     252     0     256     256         hmac(sha256)
     3      14      7     0     512     512         hmac(sha512)
     3      14      6     0     384     384         hmac(sha384)
     3      14      5     0     256     256         hmac(sha256)
     3      14      3     0     160     160           hmac(sha1)
     3      14      2     0     128     128            hmac(md5)
     3      15      3    64     192     192        cbc(des3_ede)
     3      15      6    64     128     128           cbc(cast5)
     3      15     252   128     128     256         cbc(serpent)
     3      15     253   128     128     256         cbc(twofish)
     3      15     12   128     128     256             cbc(aes)
     9      15      4     0     128     128              unknown
     9      15      3     0      32     128              unknown
     9      15      2     0     128      32              unknown
     9      15      1     0      32      32              unknown
    10      15      2     0       1       1              unknown
`

// withFiles is a machine with these files in /proc/net.
func withFiles(t *testing.T, files map[string]string) *classic.Stack {
	t.Helper()
	return withMachine(t, files, classic.Machine{})
}

func withMachine(t *testing.T, files map[string]string, m classic.Machine) *classic.Stack {
	t.Helper()
	dir := t.TempDir()
	m.ProcNet = dir
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return classic.New(m)
}

func TestCarryFault(t *testing.T) {
	const v4, v6 = "192.0.2.77", "2001:db8::77"
	const none, lacks, ah6 = klips.FaultNone, klips.FaultAlgorithm, klips.FaultAH6
	for _, tt := range []struct {
		proto klips.Proto
		dst   string
		t     klips.Transform
		want  klips.Fault
		blind klips.Fault // if the kernel lists nothing
	}{
		{klips.ProtoAH, v4, klips.Transform{Auth: alg.MD5}, none, none},
		{klips.ProtoAH, v4, klips.Transform{Auth: alg.SHA1}, none, none},
		{klips.ProtoAH, v4, klips.Transform{Auth: alg.SHA256}, lacks, none},
		{klips.ProtoAH, v4, klips.Transform{Auth: alg.SHA256Trunc}, lacks, none},
		{klips.ProtoAH, v4, klips.Transform{Auth: alg.SHA384}, lacks, none},
		{klips.ProtoAH, v4, klips.Transform{Auth: alg.SHA512}, lacks, none},
		{klips.ProtoAH, v6, klips.Transform{Auth: alg.SHA1}, ah6, ah6},
		{klips.ProtoAH, v6, klips.Transform{Auth: alg.SHA512}, ah6, ah6},
		{klips.ProtoESP, v4, klips.Transform{Enc: alg.AES, Auth: alg.SHA512}, none, none},
		{klips.ProtoESP, v6, klips.Transform{Enc: alg.TripleDES, Auth: alg.MD5}, none, none},
		{klips.ProtoESP, v4, klips.Transform{Enc: alg.TripleDES}, none, none},
		{klips.ProtoESP, v4, klips.Transform{Enc: alg.Null, Auth: alg.SHA1}, lacks, none},
		{klips.ProtoESP, v4, klips.Transform{Enc: alg.AES, Auth: 9}, lacks, none},
		{klips.ProtoComp, v4, klips.Transform{Comp: alg.Deflate}, none, none},
		{klips.ProtoComp, v6, klips.Transform{Comp: alg.LZS}, lacks, none},
		{klips.ProtoTun, v6, klips.Transform{}, none, none},
	} {
		spec := &klips.SASpec{ID: klips.SAID{Proto: tt.proto, SPI: 0x100, Dst: netip.MustParseAddr(tt.dst)}, Transform: tt.t}
		for _, k := range []struct {
			files map[string]string
			want  klips.Fault
		}{
			{map[string]string{"pf_key_supported": libreswan}, tt.want},
			{nil, tt.blind},
			{map[string]string{"pf_key_supported": libreswan + " 3 14 odd"}, tt.blind},
		} {
			if got := withFiles(t, k.files).CarryFault(t.Context(), spec); got != k.want {
				t.Errorf("CarryFault of %s %s with %v = %v, want %v", spec.ID, tt.t.Name(tt.proto), k.files, got, k.want)
			}
		}
	}
}

func TestProbe(t *testing.T) {
	s := withFiles(t, map[string]string{"pf_key_supported": libreswan, "ipsec_version": "Libreswan version: 3.32\n", "ipsec/natt": "2\n"})
	l, err := s.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var has, lacks []string
	for _, a := range l {
		if a.Missing == "" {
			has = append(has, a.Name)
		} else {
			lacks = append(lacks, a.Name)
		}
	}
	want := []string{"ah over IPv4", "comp over IPv4", "comp over IPv6", "esp over IPv4", "esp over IPv6", "cbc(des3_ede)", "cbc(aes)",
		"hmac(md5) with 96 bits", "hmac(sha1) with 96 bits", "hmac(sha256) with 128 bits", "hmac(sha256) with 96 bits",
		"hmac(sha384) with 192 bits", "hmac(sha512) with 256 bits", "ah with hmac(md5)", "ah with hmac(sha1)", "ESP out of UDP"}
	if d := cmp.Diff(want, has); d != "" {
		t.Errorf("it has (-want +got)\n%s", d)
	}
	want = []string{"ah over IPv6", "ecb(cipher_null)", "rfc4106(gcm(aes))", "rfc7539esp(chacha20,poly1305)",
		"ah with hmac(sha256)", "ah with hmac(sha384)", "ah with hmac(sha512)", "extended sequence numbers"}
	if d := cmp.Diff(want, lacks); d != "" {
		t.Errorf("it lacks (-want +got)\n%s", d)
	}
}

// An older KLIPS cuts all ICVs to 96 bits; one without IPv6 has one tunnel.
func TestProbeOlder(t *testing.T) {
	text := `satype exttype alg_id ivlen minbits maxbits name
     3      15     12   128     128     256                  aes
     3      14      5     0     256     256         hmac(sha256)
     9      15      1     0      32      32                 IPIP
`
	s := withFiles(t, map[string]string{"pf_key_supported": text, "ipsec_version": "Openswan version: 2.6.52\n", "ipsec/natt": "1\n"})
	l, err := s.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	missing := func(name string) string {
		i := slices.IndexFunc(l, func(a klips.Ability) bool { return a.Name == name })
		if i < 0 {
			return "not listed"
		}
		return l[i].Missing
	}
	for name, want := range map[string]string{
		"hmac(sha256) with 96 bits":  "",
		"hmac(sha256) with 128 bits": "not listed",
		"esp over IPv4":              "",
		"esp over IPv6":              "IPv6",
		"ah over IPv4":               "pf_key_supported",
		"comp over IPv6":             "pf_key_supported",
		"ESP out of UDP":             "natt",
	} {
		if got := missing(name); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s is missing because %q, want %q", name, got, want)
		}
	}
	if l, err := withFiles(t, nil).Probe(t.Context()); l != nil || err != nil {
		t.Errorf("Probe without pf_key_supported = %v, %v", l, err)
	}
	if l, err := withFiles(t, map[string]string{"pf_key_supported": " odd"}).Probe(t.Context()); l != nil || err == nil {
		t.Errorf("Probe with an odd pf_key_supported = %v, %v", l, err)
	}
}
