package main

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/klips-go/ipsec/testscripts/bed"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// wireguard and wireguardVersion are the module of wireguard-go. The version is that of
// go.mod, which has the module for tests. bench builds it with the versions of other
// modules that its own go.mod names.
const (
	wireguard        = "golang.zx2c4.com/wireguard"
	wireguardVersion = "v0.0.0-20260522210424-ecfc5a8d5446"
)

// wgDev is the device of wireguard-go, wgPort its UDP port.
const (
	wgDev  = "wg0"
	wgPort = 51820
)

// openWireGuard builds wireguard-go, in a module of its own in the temporary folder, and
// runs it on two hosts. Their /var/run is private, so its control sockets stay apart.
func openWireGuard(r *rig) (*way, error) {
	program, err := buildWireGuard(r)
	if err != nil {
		return nil, absentError{err.Error()}
	}
	w, err := newWay("wireguard", lab.Tmpfs("/var/run"))
	if err != nil {
		return w, err
	}
	hosts := w.hosts
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		if keys[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return w, err
		}
	}
	for i, h := range hosts {
		cmd := exec.CommandContext(r.ctx, program, "-f", wgDev)
		cmd.Env = append(os.Environ(), "WG_PROCESS_FOREGROUND=1") // without its advice to use the kernel's
		if err := w.start(h, cmd); err != nil {
			return w, err
		}
		if err := configureWireGuard(h, i, keys); err != nil {
			return w, err
		}
		if err := errors.Join(h.Up(wgDev), routeInners(h, i, wgDev)); err != nil {
			return w, err
		}
	}
	return w, nil
}

func buildWireGuard(r *rig) (program string, err error) {
	dir := filepath.Join(r.dir, "wireguard")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	mod := fmt.Sprintf("module bench\n\ngo 1.24\n\nrequire %s %s\n", wireguard, wireguardVersion)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod), 0o644); err != nil {
		return "", err
	}
	program = filepath.Join(dir, "wireguard-go")
	return program, goBuild(r.ctx, dir, program, wireguard, "-mod=mod") // it completes go.mod
}

// start starts a daemon on a host. Closing the way ends it.
func (w *way) start(h *lab.Host, cmd *exec.Cmd) error {
	if err := h.Start(cmd); err != nil {
		return err
	}
	w.daemons = append(w.daemons, cmd.Process.Pid)
	closeHosts := w.close
	w.close = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		closeHosts()
	}
	return nil
}

// configureWireGuard sets keys, port and peer through the control socket
// (https://www.wireguard.com/xplatform/).
func configureWireGuard(h *lab.Host, i int, keys [2]*ecdh.PrivateKey) error {
	request := fmt.Sprintf("set=1\nprivate_key=%x\nlisten_port=%d\npublic_key=%x\nendpoint=%s:%d\nallowed_ip=%s\nallowed_ip=%s\n\n",
		keys[i].Bytes(), wgPort, keys[1-i].PublicKey().Bytes(), bed.Wires[1-i], wgPort, host(bed.Inners[1-i]), host(inners6[1-i]))
	var c net.Conn
	dial := func() (err error) { c, err = net.Dial("unix", "/var/run/wireguard/"+wgDev+".sock"); return err }
	var err error
	if lab.Await(func() bool { err = h.Do(dial); return err == nil }) != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, err := c.Read(answer)
	if err == nil && !bytes.HasPrefix(answer[:n], []byte("errno=0\n")) {
		err = fmt.Errorf("wireguard-go refuses its configuration: %s", strings.TrimSpace(string(answer[:n])))
	}
	return err
}
