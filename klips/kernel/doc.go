// Package kernel is stack klips: the classic KLIPS kernel module. SAs, groups,
// eroutes and debug masks are changed by PF_KEY messages, byte for byte those of
// the classic tools; devices are attached by ioctls and made by PF_KEY; all
// tables come from /proc/net, and knobs are files in /proc/sys/net/ipsec.
//
// For tests, IPSEC_PFKEY_SOCKET names a unix socket (SOCK_SEQPACKET) that is
// used instead of AF_KEY, where each request is answered by a message,
// IPSEC_PROC_NET a directory instead of /proc/net, and IPSEC_PROC_SYS one instead
// of /proc/sys/net/ipsec.
package kernel
