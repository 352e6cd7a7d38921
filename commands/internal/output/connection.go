package output

// A connection of a configuration file.
type Connection struct {
	// Its name.
	Name string `json:"name"`
	// Its state: up; partial, if associations or the eroute are missing; closed, if it is
	// not up, and its packets are dropped; or down.
	State string `json:"state"`
	// The file that it is in, or was made from.
	File string `json:"file"`
	// Whether no file has it any more.
	NotInFile bool `json:"not_in_file,omitempty"`
	// What its file has otherwise than what is made, in words. Keys are compared only by
	// ipsec diff.
	Differs []string `json:"differs,omitempty"`
	// The epoch of its keys. Only with a master key.
	Epoch *uint32 `json:"epoch,omitempty"`
	// The stage of a change of its keys, see ipsec_rekey(8): receive or send.
	Stage string `json:"stage,omitempty"`
	// Seconds since its associations received the last packet. Left out if there was none.
	ReceivedSeconds *int64 `json:"received_seconds,omitempty"`
	// Seconds since they sent the last packet. Left out if there was none.
	SentSeconds *int64 `json:"sent_seconds,omitempty"`
	// The source of its packets, as seen from this host.
	Source string `json:"source"`
	// Their destination.
	Destination string `json:"destination"`
	// Flows that it had before its file was changed, which are still closed.
	Closed []string `json:"closed,omitempty"`
}
