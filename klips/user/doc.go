// Package user is stack "user": KLIPS in user space, in this program. A daemon
// (package daemon) runs the packet path (package engine) and listens on a unix
// socket; [Client] asks it for what the commands want. It knows nothing of
// packets, so commands that use it start fast.
package user
