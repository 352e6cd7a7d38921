// Package enum formats and parses the numbers of an enumeration as words.
package enum

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Text returns word, or the number if word is empty.
func Text[T ~uint8](word string, n T) string {
	if word == "" {
		return strconv.Itoa(int(n))
	}
	return word
}

// Parse parses a word, with the function named, or a number of 8 bits, with or without
// JSON's quotes. what names the enumeration in errors.
func Parse[T ~uint8](b []byte, what string, named func(word string) (T, bool)) (T, error) {
	var word string
	if json.Unmarshal(b, &word) != nil {
		word = string(b)
	}
	if n, ok := named(word); ok {
		return n, nil
	}
	n, err := strconv.ParseUint(word, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("%.40q is no %s", word, what)
	}
	return T(n), nil
}
