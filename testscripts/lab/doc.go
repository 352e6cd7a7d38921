// Package lab makes hosts for tests and demonstrations: network namespaces,
// the cables between them, and eyes to see what goes over a cable.
//
// It needs no program that a bare system lacks: links, addresses and routes go
// through rtnetlink, pings through ICMP sockets, captures through AF_PACKET.
// It works for root, and for an ordinary user in a user namespace where the
// kernel allows one (see [Enter]).
//
// A Host is a thread that lives in its own namespaces; what must happen in them
// runs on that thread ([Host.Do]), and a program that is started there inherits
// them. When the Host is closed the thread ends, and with it everything that
// only the thread kept alive.
package lab
