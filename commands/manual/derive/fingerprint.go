package derive

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

const (
	// iterations makes a guess at a key as slow as one at a password.
	iterations = 600_000
	// checkSize is the length of a fingerprint in bytes. It is shown in groups of two.
	checkSize = 16
)

// Fingerprint returns a check of a key that may be shown to anybody: PBKDF2 with SHA-256
// (RFC 8018 section 5.2), salted with the name of a connection, or with an empty one. The
// text has eight groups of four hex digits, with blanks between them. The key is not
// changed; a copy of it stays in memory, because PBKDF2 takes a string.
func Fingerprint(key []byte, name string) (string, error) {
	check, err := pbkdf2.Key(sha256.New, string(key), []byte("ipsec-klips fingerprint 1:"+name), iterations, checkSize)
	if err != nil {
		return "", err
	}
	var groups []string
	for i := 0; i < len(check); i += 2 {
		groups = append(groups, hex.EncodeToString(check[i:i+2]))
	}
	return strings.Join(groups, " "), nil
}
