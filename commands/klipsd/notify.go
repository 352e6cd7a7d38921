package klipsd

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// notifySocket is the environment variable with the address of the service manager's
// socket, see sd_notify(3). The protocol is one datagram of lines NAME=VALUE.
const notifySocket = "NOTIFY_SOCKET"

// dialManager connects a socket to the service manager at an address of [notifySocket]:
// an absolute path, or @ and a name of the abstract address space. The caller owns the
// descriptor. It is -1 if the address is empty: no manager waits for this process.
//
// The daemon connects before it gives up its rights: Landlock and the empty environment
// of the second step then leave it the socket, but not its path.
func dialManager(address string) (fd int, err error) {
	if address == "" {
		return -1, nil
	}
	fail := func(err error) (int, error) { return -1, fmt.Errorf("%s=%s: %w", notifySocket, address, err) }
	if address[0] != '/' && address[0] != '@' || len(address) < 2 {
		return fail(errors.New("not the address of a Unix socket"))
	}
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(os.NewSyscallError("socket", err))
	}
	// Connect takes a leading @ for the abstract address space.
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: address}); err != nil {
		unix.Close(fd)
		return fail(os.NewSyscallError("connect", err))
	}
	return fd, nil
}

// A manager is a connected socket of [dialManager]; nil for none.
type manager struct{ fd int }

// openManager returns the manager with a descriptor, -1 for none. Programs that this
// process starts do not get the descriptor.
func openManager(fd int) *manager {
	if fd < 0 {
		return nil
	}
	unix.CloseOnExec(fd)
	return &manager{fd}
}

// ready reports that the daemon serves its clients, with a line about its state. The
// process number matters if the daemon has replaced the main process of the service.
func (m *manager) ready(status string) error {
	return m.send("READY=1\nSTATUS=" + status + "\nMAINPID=" + strconv.Itoa(os.Getpid()))
}

// stopping reports that the daemon ends because it was told to.
func (m *manager) stopping() error { return m.send("STOPPING=1\nSTATUS=stopping") }

// send sends one message. It does not wait for a manager that does not read: the daemon
// has packets to carry.
func (m *manager) send(message string) error {
	if m == nil {
		return nil
	}
	err := unix.Send(m.fd, []byte(message), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return os.NewSyscallError("send to the service manager", err)
}
