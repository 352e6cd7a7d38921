// Package procfs writes and reads the tables that KLIPS shows in /proc/net:
// ipsec_spi, ipsec_spigrp, ipsec_eroute, ipsec_tncfg, ipsec_klipsdebug and
// ipsec_version. Every stack's listings are printed here; the tables of a KLIPS
// kernel are read here.
//
// Records are written in the order given. The line formats are those of
// libreswan 3.32's KLIPS, without its jiffies field, which other generations do
// not have. Readers take those of other generations too: fields they do not know
// are skipped, fields that are absent stay zero, empty lines do not count. A line
// that cannot be read, such as one that was cut short, does not hide the others:
// a reader returns what they say, and an *[UnreadError] with those lines. Any other
// error means that nothing can be known of the table.
package procfs
