package udpport

import (
	"os"
	"strconv"
	"strings"
)

// portStart contains the first port that unprivileged programs can bind, in the network
// namespace of the reading process. It exists since Linux 4.11.
const portStart = "/proc/sys/net/ipv4/ip_unprivileged_port_start"

// usualPortStart is that port if the kernel does not have the file.
const usualPortStart = 1024

// Unprivileged returns the first port that unprivileged programs can bind.
func Unprivileged() int {
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
