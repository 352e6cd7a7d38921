// Package lab creates hosts for tests and demonstrations: network namespaces, the
// cables between them, and captures of the packets on a cable.
//
// It needs no programs: links, addresses and routes are set through rtnetlink, pings
// use ICMP sockets, captures use AF_PACKET. It works for root. For an ordinary user it
// works in a user namespace, if the kernel allows one (see [Enter]).
//
// A Host is a thread in its own namespaces. Code that must run in them runs on that
// thread ([Host.Do]), and a program that is started there inherits them. Closing the
// Host ends the thread, and with it everything that only the thread kept alive.
package lab
