package procfs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/klips-go/ipsec/klips"
	"github.com/klips-go/ipsec/klips/klipstest/recorded"
)

// supported is a part of the table of libreswan 3.32's module.
const supported = `satype exttype alg_id ivlen minbits maxbits name
     2      14      3     0     160     160              unknown
     3      14     252     0     256     256         hmac(sha256)
     3      15      3    64     192     192        cbc(des3_ede)
     9      15      4     0     128     128              unknown
    10      15      2     0       1       1              unknown
`

func TestParseSupported(t *testing.T) {
	got, err := ParseSupported(strings.NewReader(supported))
	want := []Algorithm{
		{klips.ProtoAH, true, 3, 0, 160, 160, "unknown"},
		{klips.ProtoESP, true, 252, 0, 256, 256, "hmac(sha256)"},
		{klips.ProtoESP, false, 3, 64, 192, 192, "cbc(des3_ede)"},
		{klips.ProtoTun, false, Tunnel6in6, 0, 128, 128, "unknown"},
		{klips.ProtoComp, false, 2, 0, 1, 1, "unknown"},
	}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("ParseSupported: %v\n%s", err, d)
	}
	var b bytes.Buffer
	if err := WriteSupported(&b, got); err != nil || b.String() != supported {
		t.Errorf("WriteSupported = %v\n%s", err, b.String())
	}
	for _, line := range []string{" 3 14 2", " 3 14 x 0 1 1 n", " 3 16 2 0 1 1 n", " 3 14 256 0 1 1 n", " 3 14 2 0 1 65536 n"} {
		var unread *UnreadError
		if l, err := ParseSupported(strings.NewReader(supported + line + "\n")); len(l) != len(want) || !errors.As(err, &unread) || unread.Lines[0].Number != 7 {
			t.Errorf("ParseSupported with %q = %v, %v, want an error of line 7", line, l, err)
		}
	}
	if l, err := ParseSupported(strings.NewReader(" 5 14 2 0 128 128 none\n")); err != nil || l != nil {
		t.Errorf("ParseSupported of an SA type without a protocol = %v, %v", l, err)
	}
}

// The recorded table is the same after it is parsed and written.
func TestSupportedRecorded(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(recorded.ProcNet(t), "full", "pf_key_supported"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := ParseSupported(bytes.NewReader(text))
	var b bytes.Buffer
	if err == nil {
		err = WriteSupported(&b, list)
	}
	if err != nil || b.String() != string(text) {
		t.Errorf("%v, written\n%swant\n%s", err, b.String(), text)
	}
}

func FuzzParseSupported(f *testing.F) {
	f.Add([]byte(supported))
	f.Fuzz(func(t *testing.T, in []byte) {
		list, err := ParseSupported(bytes.NewReader(in))
		var unread *UnreadError
		if err != nil && !errors.As(err, &unread) {
			t.Fatalf("error %v", err)
		}
		for i := range list {
			list[i].Name = "name" // which is free text
		}
		var b bytes.Buffer
		if err := WriteSupported(&b, list); err != nil {
			t.Fatal(err)
		}
		back, err := ParseSupported(&b)
		if d := cmp.Diff(list, back); err != nil || d != "" {
			t.Fatalf("%q read again: %v\n%s", in, err, d)
		}
	})
}
