package main

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/klips-go/ipsec/testscripts/lab"
)

// errClear is the error for a packet that is not ESP in AH.
var errClear = errors.New("not protected")

// open checks and decrypts a frame with the demonstration's keys, and describes its
// content. It shares no code with the stack. The formats are those of RFC 4302, 4303
// and 4106.
func (s *show) open(link lab.LinkType, frame []byte) (string, error) {
	ls := lab.Layers(link, frame)
	if len(ls) != 3 || ls[0].Name != "ip" || ls[1].Name != "ah" || ls[2].Name != "esp" {
		return "", errClear
	}
	esp := frame[len(frame)-ls[2].Len:]
	const header, ivLen, icvLen, saltLen = 8, 8, 16, 4
	if len(esp) < header+ivLen+2+icvLen {
		return "", fmt.Errorf("ESP of %d bytes", len(esp))
	}
	spi := binary.BigEndian.Uint32(esp)
	key := s.espKeys[spi]
	if len(key) != 32+saltLen {
		return "", fmt.Errorf("unknown SPI %#x", spi)
	}
	block, err := aes.NewCipher(key[:32])
	if err != nil {
		return "", err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return "", err
	}
	// The nonce is the salt and the IV; SPI and sequence number are authenticated.
	nonce := append(append([]byte(nil), key[32:]...), esp[header:header+ivLen]...)
	text, err := gcm.Open(nil, nonce, esp[header+ivLen:], esp[:header])
	if err != nil {
		return "", fmt.Errorf("SPI %#x: %w", spi, err)
	}
	pad, next := int(text[len(text)-2]), text[len(text)-1]
	if pad+2 > len(text) || next != 4 {
		return "", fmt.Errorf("next header %d, not IP-in-IP", next)
	}
	return "IP-in-IP: " + lab.Summary(lab.LinkRaw, text[:len(text)-2-pad]), nil
}

// parseKey parses the output of ranbits: 0x and hex digits with underscores.
func parseKey(text string) ([]byte, error) {
	digits, ok := strings.CutPrefix(strings.TrimSpace(text), "0x")
	key, err := hex.DecodeString(strings.ReplaceAll(digits, "_", ""))
	if !ok || err != nil {
		return nil, errors.New("ipsec ranbits did not print a hexadecimal number")
	}
	return key, nil
}
