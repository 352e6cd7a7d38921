package derive

import "testing"

// TestFingerprint compares fingerprints with those of pbkdf2_hmac of Python's hashlib.
func TestFingerprint(t *testing.T) {
	for _, tt := range []struct {
		key        []byte
		name, want string
	}{
		{master(32), "net", "7d6a 6311 f863 a810 8c77 cd2a 519c c7e6"},
		{master(32), "other", "1a36 68d5 3ed2 08aa b4c6 4088 b1eb d553"},
		{master(32), "", "a0b9 37a9 d2b8 e41b 0f8e 9f8b 9acb ce3a"},
		{master(64), "net", "6b82 4fd4 6f2b 7cbf ccf2 ba0f af52 aa46"},
		{[]byte{0xff}, "n", "ed65 f29c 4c09 3e0b 6d4b cf15 c2b9 7c51"},
	} {
		if got, err := Fingerprint(tt.key, tt.name); got != tt.want || err != nil {
			t.Errorf("Fingerprint(%d bytes, %q) = %q, %v, want %q", len(tt.key), tt.name, got, err, tt.want)
		}
	}
}
