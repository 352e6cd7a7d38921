package host

import (
	"os"
	"strconv"
	"strings"
)

// portStart is where the kernel keeps the first port that programs without rights
// can bind, of the network namespace of the process that reads it. It came with
// Linux 4.11.
const portStart = "/proc/sys/net/ipv4/ip_unprivileged_port_start"

// usualPortStart is that port where the kernel does not say it.
const usualPortStart = 1024

// UnprivilegedPorts returns the first port that programs without rights can bind.
func (h *Host) UnprivilegedPorts() int {
	text, err := os.ReadFile(portStart)
	if err != nil {
		return usualPortStart
	}
	return parsePortStart(string(text))
}

func parsePortStart(text string) int {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n < 0 {
		return usualPortStart
	}
	return n
}
