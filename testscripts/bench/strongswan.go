package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/klips-go/ipsec/testscripts/bed"
	"github.com/klips-go/ipsec/testscripts/lab"
)

// charon is strongSwan's daemon, where Debian installs it.
const charon = "/usr/lib/ipsec/charon"

// plugin returns the file of one of its plugins.
func plugin(name string) string {
	return filepath.Join(filepath.Dir(charon), "plugins", "libstrongswan-"+name+".so")
}

// charonConf makes charon handle ESP itself, in libipsec, always in UDP. The argument is
// its folder.
const charonConf = `charon {
	load = random nonce openssl aes gcm hmac sha1 sha2 kdf pubkey pem kernel-libipsec kernel-netlink socket-default updown vici
	plugins {
		vici {
			socket = unix://%s/vici
		}
	}
}
`

// swanctlConf has one connection with a shared key. The arguments are the addresses on the
// wire, the names of both ends, and the addresses behind.
const swanctlConf = `connections {
	bench {
		version = 2
		local_addrs = %[1]s
		remote_addrs = %[2]s
		proposals = aes128-sha256-x25519
		local {
			auth = psk
			id = host%[3]d
		}
		remote {
			auth = psk
			id = host%[4]d
		}
		children {
			bench {
				local_ts = %[5]s, %[7]s
				remote_ts = %[6]s, %[8]s
				esp_proposals = aes128gcm16
			}
		}
	}
}
secrets {
	ike {
		secret = only for measuring
	}
}
`

// openStrongSwan runs charon on two hosts. Their /var/run is private, for the file with its
// process id.
func openStrongSwan(r *rig) (*way, error) {
	swanctl, err := exec.LookPath("swanctl")
	if err != nil || exist(charon, plugin("kernel-libipsec"), plugin("openssl")) != nil {
		return nil, absentError{"it needs the Debian packages strongswan-charon, libcharon-extra-plugins, libstrongswan-standard-plugins, strongswan-swanctl"}
	}
	w, err := newWay("strongswan", lab.Tmpfs("/var/run"))
	if err != nil {
		return w, err
	}
	hosts := w.hosts
	for i, h := range hosts {
		dir := filepath.Join(r.dir, h.Name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return w, err
		}
		conf, connection := filepath.Join(dir, "strongswan.conf"), filepath.Join(dir, "swanctl.conf")
		for file, text := range map[string]string{
			conf: fmt.Sprintf(charonConf, dir),
			connection: fmt.Sprintf(swanctlConf, bed.Wires[i], bed.Wires[1-i], i, 1-i,
				host(bed.Inners[i]), host(bed.Inners[1-i]), host(inners6[i]), host(inners6[1-i])),
		} {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				return w, err
			}
		}
		cmd := exec.CommandContext(r.ctx, charon)
		cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+conf)
		if err := w.start(h, cmd); err != nil {
			return w, err
		}
		socket := filepath.Join(dir, "vici")
		if err := lab.Await(func() bool { return exist(socket) == nil }); err != nil {
			return w, fmt.Errorf("charon does not start: %w", err)
		}
		commands := [][]string{{"--load-all", "--file", connection, "--noprompt"}}
		if i == 1 {
			commands = append(commands, []string{"--initiate", "--child", "bench", "--timeout", "20"})
		}
		for _, args := range commands {
			cmd := exec.CommandContext(r.ctx, swanctl, append(args, "--uri", "unix://"+socket)...)
			cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+conf)
			if out, err := h.Output(cmd); err != nil {
				return w, fmt.Errorf("swanctl %s: %w\n%s", args[0], err, out)
			}
		}
	}
	return w, nil
}
