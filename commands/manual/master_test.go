package manual

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/commands/internal/clitest"
	"github.com/klips-go/ipsec/klips"
)

const masterText = "0x00010203_04050607_08090a0b_0c0d0e0f_10111213_14151617_18191a1b_1c1d1e1f\n"

// derived returns the keys of the SAs that a connection makes, by SAID.
func derived(t *testing.T, k *connection) map[klips.SAID]string {
	t.Helper()
	keys := map[klips.SAID]string{}
	for _, s := range makePlan(k, "up", nil).Steps {
		if s.SA == nil || s.SA.Keys == nil {
			continue
		}
		enc, auth, err := s.SA.Keys()
		if err != nil {
			t.Fatal(err)
		}
		keys[s.SA.ID] = hex.EncodeToString(enc) + " " + hex.EncodeToString(auth)
	}
	return keys
}

// TestMasterBothEnds: both ends derive the same keys, also if one of them has
// left and right exchanged twice. All keys differ, and those of each epoch.
func TestMasterBothEnds(t *testing.T) {
	const algs = "spibase=0x1000\n esp=aes128-sha1\n ah=hmac-sha2-256\n masterkey=" + masterText
	all := map[string]klips.SAID{}
	for _, epoch := range []uint32{0, 1, 0x10000, 0xffffffff} {
		l, err := load(t, left, false, ends+algs)
		if err != nil {
			t.Fatal(err)
		}
		r, err := load(t, left, true, "conn t\n alsoflip=u\nconn u\n right=10.0.0.1\n rightsubnet=10.1.0.0/16\n left=10.0.0.2\n leftsubnet=10.2.0.0/16\n "+algs)
		if err != nil {
			t.Fatal(err)
		}
		l.epoch, r.epoch = epoch, epoch
		mine, peers := derived(t, l), derived(t, r)
		if len(mine) != 4 || len(peers) != 4 {
			t.Fatalf("epoch %d: %d and %d SAs have derived keys, want 4", epoch, len(mine), len(peers))
		}
		for id, keys := range mine {
			if peers[id] != keys {
				t.Errorf("epoch %d: %v has the keys %q on left and %q on right", epoch, id, keys, peers[id])
			}
			for key := range strings.FieldsSeq(keys) {
				if other, ok := all[key]; ok {
					t.Errorf("epoch %d: %v has a key of %v", epoch, id, other)
				}
				all[key] = id
			}
			if want := klips.SPI(0x1000 + epoch<<16); id.SPI&^0xf != want {
				t.Errorf("epoch %d: the SPI of %v, want 0x%x and a last digit", epoch, id, want)
			}
		}
	}
}

// TestMasterFile: the file of a master key is read when SAs are made, not for other
// operations. One that others can read or change is refused.
func TestMasterFile(t *testing.T) {
	dir := t.TempDir()
	config, key := filepath.Join(dir, "ipsec.conf"), filepath.Join(dir, "net.key")
	text := ends + "spibase=0x1000\n esp=aes256-gcm\n masterkey=@net.key\n"
	for name, data := range map[string]string{config: text, key: masterText} {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) clitest.Result {
		return clitest.Run(app(left, nil), clitest.World{StackErr: errors.New("no stack")}, append([]string{"--config", config}, args...)...)
	}
	for mode, want := range map[os.FileMode]string{0o640: "can be read by others", 0o602: "can be changed by others"} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		r := run("--up", "t")
		if r.Status != 1 || r.Opened || strings.Count(r.Err, "\n") != 1 ||
			!strings.HasPrefix(r.Err, "ipsec manual: "+config+":9: conn t: masterkey: the key file "+key+" "+want) ||
			!strings.HasSuffix(r.Err, "; make it private with: chmod 600 "+key+"\n") {
			t.Errorf("mode %04o: status %d, %q", mode, r.Status, r.Err)
		}
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if r := run("--up", "t"); r.Status != 1 || !strings.Contains(r.Err, key+": no such file or directory") {
		t.Errorf("--up without the file: status %d, %q", r.Status, r.Err)
	}
	for _, op := range []string{"--down", "--route", "--unroute"} {
		if r := run("--showonly", op, "t"); r.Status != 0 || r.Err != "" {
			t.Errorf("%s without the file: status %d, %q", op, r.Status, r.Err)
		}
	}
}

// TestMasterExposed: a configuration file that others can read must not have the master key in
// it. What is up can be taken down.
func TestMasterExposed(t *testing.T) {
	b := newBench(t, ends+"spibase=0x1000\n esp=aes128-sha1\n masterkey="+masterText)
	if r := b.run("--up t"); r.Status != 0 {
		t.Fatal(r.Err)
	}
	if err := os.Chmod(b.file, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := b.run("--down t"); r.Status != 0 {
		t.Errorf("--down: %s", r.Err)
	}
	before := b.state()
	if r := b.run("--up t"); r.Status != 1 || !strings.Contains(r.Err, "masterkey: other users can read "+b.file) || b.state() != before {
		t.Errorf("--up: %+v\n%s", r, b.state())
	}
}

// TestMasterShow: --show prints an ellipsis for each derived key, and the SAs get the
// replay window.
func TestMasterShow(t *testing.T) {
	b := newBench(t, ends+"spibase=0x1000\n esp=aes128-sha1\n masterkey="+masterText)
	r := b.run("--show --up t")
	const want = "--esp aes128-sha1 --src 10.0.0.1 --authkey … --replay_window 64 --enckey …\n"
	if r.Status != 0 || !strings.Contains(r.Err, want) || strings.Count(r.Err, "…") != 4 {
		t.Errorf("--show --up: status %d, %s, want %q", r.Status, r.Err, want)
	}
}

// TestMasterRecorded: the epoch that is up is taken down, whatever the file has now, and no
// other is brought up beside it.
func TestMasterRecorded(t *testing.T) {
	text := ends + "spibase=0x1000\n esp=aes128-sha1\n masterkey=" + masterText + " epoch=3\n"
	b := newRecorded(t, text)
	b.ok(t, "up --config FILE t")
	b.ok(t, "down --config FILE t")
	b.ok(t, "up --config FILE t")
	b.write(t, strings.ReplaceAll(text, "epoch=3", "epoch=4"))
	const want = "it is up in another form: epoch: 3 is made, the file has 4; "
	if r := b.command("up --config FILE t"); r.Status != 1 || !strings.Contains(r.Err, want) {
		t.Errorf("up in another epoch: %+v, want %s", r, want)
	}
	if !strings.Contains(b.state(), "esp0x31002@") {
		t.Errorf("the SAs of epoch 3 are not there:\n%s", b.state())
	}
	b.ok(t, "down --config FILE t")
	if strings.Contains(b.state(), "esp0x") {
		t.Errorf("SAs are left:\n%s", b.state())
	}
}
