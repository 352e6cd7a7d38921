// Package marks remembers how far the sequence numbers of SAs have come: by key, in a
// file that outlives the process and the machine. An SA that is made again with a key
// goes on from its mark. So no number is sent twice with one key, the peer does not drop
// what it takes for a replay, and what was recorded yesterday is refused today
// (RFC 4303 sections 3.3.3 and 3.4.3; both ask for new keys instead, which SAs that are
// made by hand do not get by themselves).
//
// The file never holds a key. What an SA protects packets with, and its SAID, are put
// through HMAC-SHA-256 with a random secret of this file; see [File.Key].
//
// It has a header and records of one size, to which new ones are appended: the last one
// of a key counts. Every record has a checksum, so one that was written in part is left
// out, and what the key had before counts. When the records are twice as many as the
// keys, a new file takes the place of the old one. At most [Max] keys are remembered;
// beyond that, those that were not used for the longest time are forgotten.
//
// A number must be in the file before it is used, and a packet cannot wait for that. So
// a writer reserves many numbers at a time. A record is certain to be there after a
// crash of the machine once [File.Sync] has returned. To make an SA usable at once,
// [Unsynced] numbers may be used before: where the machine has crashed since, which the
// next one to open the file sees, all marks are put up by so much, and so is the floor
// from which unknown keys begin. A crash loses numbers and repeats none.
package marks
