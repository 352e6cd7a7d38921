// Package classic is stack klips: the classic KLIPS kernel module. SAs, groups,
// eroutes and debug masks are changed by PF_KEY messages, byte for byte those of
// the classic tools; devices are attached by ioctls and made by PF_KEY; all
// tables come from /proc/net, and knobs are files in /proc/sys/net/ipsec.
//
// For tests, a [Config] names a unix socket (SOCK_SEQPACKET) that is used instead of
// AF_KEY, where each request is answered by a message, and directories instead of
// /proc/net and /proc/sys/net/ipsec.
package classic
