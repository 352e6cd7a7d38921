// Package procfs formats and parses KLIPS' tables in /proc/net: ipsec_spi,
// ipsec_spigrp, ipsec_eroute, ipsec_tncfg, ipsec_klipsdebug and ipsec_version. It
// formats every stack's listings, and parses the tables of a KLIPS kernel.
//
// Records are written in the order given. The line formats are those of libreswan
// 3.32's KLIPS, without its jiffies field, which other generations do not have. Parsers
// accept those of other generations too: they skip unknown fields and empty lines, and
// absent fields stay zero. A line that cannot be parsed, such as a truncated one, does
// not hide the others: the parser returns their records, and an *[UnreadError] with the
// bad lines. Any other error means that nothing of the table could be read.
package procfs
