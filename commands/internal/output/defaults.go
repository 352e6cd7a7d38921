package output

import "net/netip"

// What commands and files use if nothing is named.
type Defaults struct {
	// What %defaultroute stands for in files with IPv4 addresses.
	IPv4 DefaultRoute `json:"ipv4"`
	// What it stands for in files with IPv6 addresses.
	IPv6 DefaultRoute `json:"ipv6"`
	// The stack that commands use. Left out if there is none.
	Stack string `json:"stack,omitempty"`
	// The reason why it is this one.
	StackChosen string `json:"stack_chosen,omitempty"`
	// The reason why there is none.
	StackProblem string `json:"stack_problem,omitempty"`
	// The stacks in the order in which they are tried.
	StackSearch []string `json:"stack_search"`
	// The virtual device of a connection whose file and addresses name none.
	Device string `json:"device"`
	// Where connections are looked for.
	FilesSearch []string `json:"files_search"`
	// The files that are there.
	Files []string `json:"files"`
	// The reason why they are not known.
	FilesProblem string `json:"files_problem,omitempty"`
	// The file that is read when the stack starts. Left out if there is none.
	BootFile string `json:"boot_file,omitempty"`
	// The run directory: the socket of the daemon, and the records of connections.
	RunDirectory string `json:"run_directory,omitempty"`
	// The reason why it cannot be used.
	RunDirectoryProblem string `json:"run_directory_problem,omitempty"`
	// The directory of sequence marks. Left out if none are kept.
	StateDirectory string `json:"state_directory,omitempty"`
	// The replay window of the SAs of a connection whose file gives none, in packets. It is
	// for SAs that authenticate.
	ConnectionReplayWindowPackets int `json:"connection_replay_window_packets"`
	// The replay window of an SA that ipsec spi makes without one. 0 means none.
	ReplayWindowPackets int `json:"replay_window_packets"`
	// The same with extended sequence numbers, which need one.
	ExtendedReplayWindowPackets int `json:"extended_replay_window_packets"`
}

// What %defaultroute stands for. It is empty apart from the problem if there is no default
// route.
type DefaultRoute struct {
	// The device of the route.
	Device string `json:"device,omitempty"`
	// The address of this host on it.
	Address netip.Addr `json:"address,omitzero"`
	// The next hop. Left out if the route has no gateway.
	NextHop netip.Addr `json:"next_hop,omitzero"`
	// The reason why there is none.
	Problem string `json:"problem,omitempty"`
}
