package klips

import "errors"

// An UnreadLine is a line of a stack's table that cannot be read. It does not hide the
// others: the lists of SAs, eroutes, devices and debug masks have what could be read,
// without an error.
type UnreadLine struct {
	Table  string // its name in /proc/net, as "ipsec_eroute"
	Number int    // from 1
	// Text is the line as the stack shows it, without its end. It may hold any
	// bytes.
	Text   string
	Reason string // why it cannot be read, in words
	// ID is the SAID that the line begins with; zero where it begins with none.
	ID SAID
}

// ErrUnread is why nothing is known of an SA that an [UnreadLine] is about.
var ErrUnread = errors.New("its line in the table cannot be read")

// TextTables are the names in /proc/net of the tables that stack klips has as text.
var TextTables = [...]string{"ipsec_spi", "ipsec_spigrp", "ipsec_eroute", "ipsec_tncfg", "ipsec_klipsdebug"}
