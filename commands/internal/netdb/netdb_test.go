package netdb

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFind(t *testing.T) {
	file := filepath.Join(t.TempDir(), "services")
	text := "# comment http 1/tcp\nhttp\t80/tcp\twww # WorldWideWeb xyz\nbad\nworse x/tcp\ndomain 53/udp\nhuge 70000/tcp\ndomain 54/tcp\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		want uint16
		ok   bool
	}{
		{"http", 80, true}, {"www", 80, true}, {"domain", 53, true},
		{"HTTP", 0, false}, {"xyz", 0, false}, {"80/tcp", 0, false}, {"bad", 0, false},
		{"worse", 0, false}, {"huge", 0, false}, {"", 0, false}, {"ww", 0, false},
	}
	for _, tt := range tests {
		if got, ok := find(file, tt.name); got != tt.want || ok != tt.ok {
			t.Errorf("find(%q) = %d, %v, want %d, %v", tt.name, got, ok, tt.want, tt.ok)
		}
	}
	if _, ok := find(filepath.Join(t.TempDir(), "none"), "http"); ok {
		t.Error("find in a missing file found something")
	}
}

// TestBuiltin compares the built-in names with the files of this system, if they have
// the names.
func TestBuiltin(t *testing.T) {
	for _, tt := range []struct {
		file  string
		fn    func(string) (uint16, bool)
		look  func(string) (uint16, bool)
		names []string
	}{
		{protocolsFile, builtinProtocol, Protocol, []string{"ip", "icmp", "tcp", "TCP", "udp", "gre", "esp", "ah", "ipv6-icmp", "ospf", "l2tp", "sctp", "ipcomp"}},
		{servicesFile, builtinService, Service, []string{"ssh", "smtp", "domain", "http", "www", "ntp", "isakmp", "https", "bgp"}},
	} {
		for _, name := range tt.names {
			want, ok := tt.fn(name)
			if !ok {
				t.Errorf("%q is not built in", name)
			}
			if got, ok := find(tt.file, name); ok && got != want {
				t.Errorf("%q is %d in %s, %d built in", name, got, tt.file, want)
			}
			if got, ok := tt.look(name); !ok || got != want {
				t.Errorf("%q = %d, %v, want %d", name, got, ok, want)
			}
		}
	}
}
