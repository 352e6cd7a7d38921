// Package marks records the sequence numbers that SAs have used, by key, in a file that
// survives restarts of the process and the machine. An SA that is made again with a key
// continues from its mark. So no number is sent twice with one key, the peer does not
// drop packets as replays, and packets recorded before a restart are refused after it
// (RFC 4303 sections 3.3.3 and 3.4.3; both require new keys instead, which manual
// keying does not provide).
//
// The file never contains a key. It contains an HMAC-SHA-256 of an SA's keys,
// algorithms and SAID, with a random secret of this file; see [File.Key].
//
// It has a header and records of one size. New records are appended; the last record of
// a key counts. Every record has a checksum, so an incomplete record is ignored, and
// the key's previous record counts. When there are twice as many records as keys, a new
// file replaces the old one. The file has at most [Max] keys; those that were unused
// for the longest time are removed first.
//
// A number must be in the file before it is used, and a packet cannot wait for that. So
// a writer reserves many numbers at a time. A record survives a crash of the machine
// once [File.Sync] has returned. To make an SA usable at once, [Unsynced] numbers may
// be used before that. The next process to open the file sees whether the machine has
// crashed. If so, it raises all marks by Unsynced, and also the floor, the mark of
// unknown keys. A crash loses numbers and repeats none.
package marks
