package klips

import "errors"

// An UnreadLine is a line of a stack's table that cannot be parsed. It does not hide
// the others: the lists of SAs, eroutes, devices and debug masks have all other lines,
// without an error.
type UnreadLine struct {
	Table  string // its name in /proc/net, as "ipsec_eroute"
	Number int    // from 1
	// Text is the line of the table without its newline. It may contain any bytes.
	Text   string
	Reason string // why it cannot be parsed, as text
	// ID is the SAID at the start of the line; zero if there is none.
	ID SAID
}

// ErrUnread means that an SA's state is unknown because of an [UnreadLine].
var ErrUnread = errors.New("its line in the table cannot be read")

// TextTables are the names in /proc/net of stack klips' tables, which are text.
var TextTables = [...]string{"ipsec_spi", "ipsec_spigrp", "ipsec_eroute", "ipsec_tncfg", "ipsec_klipsdebug"}
