package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/klips-go/ipsec/testscripts/lab"
)

// errClear is the error of a packet that is not AH around ESP.
var errClear = errors.New("not protected")

// open checks and decrypts a frame with the demonstration's own keys, by code
// that shares nothing with the stack, and describes what it holds. The formats
// are those of RFC 4302, 4303, 3602 and 2404.
func (s *show) open(link lab.LinkType, frame []byte) (string, error) {
	ls := lab.Layers(link, frame)
	if len(ls) != 3 || ls[0].Name != "ip" || ls[1].Name != "ah" || ls[2].Name != "esp" {
		return "", errClear
	}
	esp := frame[len(frame)-ls[2].Len:]
	const header, icvLen = 8, 12
	if n := len(esp) - header - icvLen; n < 2*aes.BlockSize || n%aes.BlockSize != 0 {
		return "", fmt.Errorf("ESP of %d bytes", len(esp))
	}
	body, icv := esp[:len(esp)-icvLen], esp[len(esp)-icvLen:]
	mac := hmac.New(sha1.New, s.espAuth)
	mac.Write(body)
	if !hmac.Equal(mac.Sum(nil)[:icvLen], icv) {
		return "", errors.New("wrong ICV")
	}
	block, err := aes.NewCipher(s.espKey)
	if err != nil {
		return "", err
	}
	iv, text := body[header:header+aes.BlockSize], append([]byte(nil), body[header+aes.BlockSize:]...)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(text, text)
	pad, next := int(text[len(text)-2]), text[len(text)-1]
	if pad+2 > len(text) || next != 4 {
		return "", fmt.Errorf("next header %d, not IP-in-IP", next)
	}
	return "IP-in-IP: " + lab.Summary(lab.LinkRaw, text[:len(text)-2-pad]), nil
}

// parseKey reads what ranbits prints: 0x and hex digits with underscores.
func parseKey(text string) ([]byte, error) {
	digits, ok := strings.CutPrefix(strings.TrimSpace(text), "0x")
	key, err := hex.DecodeString(strings.ReplaceAll(digits, "_", ""))
	if !ok || err != nil {
		return nil, errors.New("ipsec ranbits did not print a hexadecimal number")
	}
	return key, nil
}
