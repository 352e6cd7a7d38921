// Package testscripts tests the program from outside. The scripts are the *.txtar files
// in its folders, one folder per applet, tunnel/ for whole tunnels between hosts,
// programs/ for what programs do in them, and routing/ for routing daemons; the tests here
// run them.
//
// A script is a txtar archive (see the documentation of testscript in
// github.com/rogpeppe/go-internal): a comment with a sentence about what it shows, the
// commands, and the files that the commands need or must print. Scripts can run every
// applet under each of its names: "ipsec spi", "spi", "ipsec_spi". There are more
// programs:
//
//	netns NAME PROG ARG...   run PROG on the host NAME
//	status N PROG ARG...     run PROG; succeed if it exits with N
//	flood [-count FILE] ADDR:PORT...
//	                         send UDP packets as fast as can be, until SIGINT
//	web ADDR:PORT            be an HTTP server, until SIGINT
//	fetch ADDR:PORT|unix:PATH [ACCEPT]
//	                         get /metrics over HTTP, print it, and the status on standard error
//	transfer ADDR:PORT BYTES get so many bytes from web, put them there, compare the sums
//	talk [-df] [-each] tcp|udp ADDR:PORT TIMES BYTES...
//	                         send messages to a server, each after the answer to the one
//	                         before; -each: from a new port; -df: without fragments
//
// and these commands:
//
//	addns NAME...                        create hosts
//	gateways                             create gw1 and gw2 (below)
//	link A DEV ADDRS B DEV ADDRS         join two hosts; ADDRS is a list with commas, or -
//	addr NAME DEV ADDR...                add addresses to a device
//	route NAME NET [via GW] [dev DEV] [src ADDR]
//	sysctl NAME KEY VALUE
//	mtu NAME DEV BYTES
//	up NAME DEV                          bring a device up
//	capture NAME DEV FILE                record the packets of DEV in a pcap file
//	pcap [-a|-t] FILE                    print a capture, one packet per line; -a also prints ARP and the like;
//	                                     -t prints the outermost TOS or traffic class first
//	layers KEYS FILE                     open a capture with tshark, given the keys
//	scapy KEYS FILE                      open a capture with scapy, given the keys
//	[!] ping [-c N] [-i PAUSE] [-s BYTES] [-I SRC] [-df] [-Q TOS] NAME ADDR [PROG ARG...]
//	                                     with PROG: run it after the first answer, and ping until it has
//	                                     ended, N times or more; each request must be answered
//	serve NAME tcp|udp ADDR:PORT         answer each message with the same text
//	[!] dial [-x TIMES] NAME tcp|udp ADDR:PORT TEXT
//	                                     send TEXT, print the answer or its length
//	await PROG ARG...                    repeat PROG until it succeeds
//	replay NAME DEV FILE [N]             send the frames of a capture again, N times
//	forge NAME ADDR PROTO HEX            send one IP packet with this payload; ADDR can be fe80::1%eth0
//	[!] knock SOCKET HEX                 send bytes to a daemon's socket, print the answer in hex
//	json APPLET FILE [PATH=VALUE...]     check that FILE has the form that ipsec_json(5) describes for
//	                                     an applet, and has these values; see cmdJSON
//	metrics FILE ['NAME [LABEL=VALUE...]: SUM'...]
//	                                     check that FILE is OpenMetrics text and that the samples of
//	                                     a name with these labels have this sum; see cmdMetrics
//
// No check depends on time. "! ping", "! dial" and knock wait for an answer until the
// hosts are idle; see lab.Idle.
//
// "gateways" creates the two hosts that most tunnels need: the stack runs on both,
// ipsec0 is attached to eth0 and up, and packets to the other's inner networks (/24 and
// /64) are routed into it.
//
//	10.1.0.1 fd01::1 (gw1) 192.0.2.1 2001:db8::1 --- 192.0.2.2 2001:db8::2 (gw2) 10.2.0.1 fd02::1
//
// The conditions are the words of package testscripts/skip: [root] may make network
// namespaces, [tun] may make TUN devices, [users] may become another user, [tshark] the
// program is installed, and so on. The variable REQUIRE lists words whose conditions
// must hold: a script that checks one of them then fails instead of being skipped. In
// addition, [onkernel] holds if the commands go to the kernel's own stack.
//
// A file "hosts" in an archive is /etc/hosts on all hosts of the script. Each host has
// its own IPSEC_RUNDIR, $WORK/run/NAME. The daemons are stopped at the end of the
// script.
//
// UPDATE=1 go test ./testscripts rewrites the expected output.
package testscripts
