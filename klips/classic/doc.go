// Package classic is stack klips: the classic KLIPS kernel module. It changes SAs,
// groups, eroutes and debug masks by PF_KEY messages, byte for byte those of the
// classic tools. It makes devices by PF_KEY and attaches them by ioctls. It reads
// tables from /proc/net; knobs are files in /proc/sys/net/ipsec.
//
// For tests, a [Config] names a unix socket (SOCK_SEQPACKET) to use instead of AF_KEY,
// and directories instead of /proc/net and /proc/sys/net/ipsec. On the socket each
// request gets a message as answer.
package classic
