package packages

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klips-go/ipsec/testscripts/skip"
)

// root is the root of the repository, relative to this directory.
const root = "../.."

// folder returns the folder with the packages, an absolute path.
func folder(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("IPSEC_TEST_PACKAGES")
	if dir == "" {
		skip.Without(t, skip.Packages, "IPSEC_TEST_PACKAGES names no folder; make test-pkg does")
	}
	return dir
}

// one returns the package whose name matches.
func one(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder(t), pattern))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: %q, %v, want one", pattern, files, err)
	}
	return files[0]
}

// output runs a program and returns what it prints.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}

// An entry is a file of a package.
type entry struct {
	mode    os.FileMode // type and permissions
	link    string
	content []byte
}

// readTar reads the entries of an archive by their absolute paths.
func readTar(t *testing.T, r io.Reader) map[string]entry {
	t.Helper()
	entries := map[string]entry{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s belongs to user %d, group %d", h.Name, h.Uid, h.Gid)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		entries[filepath.Join("/", h.Name)] = entry{h.FileInfo().Mode(), h.Linkname, b}
	}
}

// have checks the files that every package has, with the program in prefix/sbin.
func have(t *testing.T, entries map[string]entry, prefix string) {
	t.Helper()
	sbin, share := prefix+"/sbin/", prefix+"/share/"
	for name, want := range map[string]struct {
		mode os.FileMode
		link string
	}{
		sbin + "ipsec":     {0o755, ""},
		sbin + "ipsec_spi": {0o777 | os.ModeSymlink, "ipsec"},
		share + "bash-completion/completions/ipsec":                   {0o644, ""},
		share + "bash-completion/completions/ipsec_tncfg":             {0o777 | os.ModeSymlink, "ipsec"},
		share + "zsh/site-functions/_ipsec":                           {0o644, ""},
		share + "doc/ipsec-klips/examples/net.conf":                   {0o644, ""},
		share + "doc/ipsec-klips/examples/prometheus/ipsec.rules.yml": {0o644, ""},
		share + "doc/ipsec-klips/examples/grafana/ipsec.json":         {0o644, ""},
		"/etc/ipsec.d": {0o755 | os.ModeDir, ""},
	} {
		got, found := entries[name]
		mode := got.mode
		if mode&os.ModeSymlink != 0 {
			mode |= 0o777 // without a meaning
		}
		if !found || mode != want.mode || got.link != want.link {
			t.Errorf("%s: found %v, mode %v, link %q, want %v, %q", name, found, got.mode, got.link, want.mode, want.link)
		}
	}
	pages, err := filepath.Glob(root + "/manpages/*.[578]")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	for _, page := range pages {
		name := share + "man/man" + page[len(page)-1:] + "/" + filepath.Base(page)
		if _, plain := entries[name]; !plain && entries[name+".gz"].content == nil {
			t.Errorf("there is no %s", name)
		}
	}
}

// TestDeb: lintian finds no fault, and the package's scripts work on a Debian.
func TestDeb(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		deb := one(t, "ipsec-klips_*_"+arch+".deb")
		entries := readTar(t, strings.NewReader(output(t, "dpkg-deb", "--fsys-tarfile", deb)))
		have(t, entries, "/usr")
		for name, want := range map[string]string{
			"ipsec.service": "!/usr/sbin/ipsec klipsd", "ipsec-connections.service": "/usr/sbin/ipsec up --all", "ipsec@.service": "/usr/sbin/ipsec up %i",
		} {
			if unit := string(entries["/usr/lib/systemd/system/"+name].content); !strings.Contains(unit, "\nExecStart="+want+"\n") {
				t.Errorf("%s: %s does not start %s:\n%s", arch, name, want, unit)
			}
		}
		if got := strings.TrimSpace(output(t, "dpkg-deb", "--field", deb, "Architecture")); got != arch {
			t.Errorf("Architecture is %s, want %s", got, arch)
		}
	}
}

func TestLintian(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		deb := one(t, "ipsec-klips_*_"+arch+".deb")
		lintian := skip.WithoutProgram(t, skip.Lintian)
		if out := output(t, lintian, "--fail-on", "error,warning", "--allow-root", deb); out != "" {
			t.Errorf("lintian %s:\n%s", arch, out)
		}
	}
}

// onDebian are lines of a script that make the Debian of this machine the folder tree, below a
// layer that the test throws away.
const onDebian = `set -e
cd "$1"
mkdir layer tree
mount -t tmpfs none layer
mkdir layer/upper layer/work
mount -t overlay -o lowerdir=/,upperdir=layer/upper,workdir=layer/work none tree || exit 111
mount -t proc none tree/proc
mount -t tmpfs none tree/dev
mkdir tree/dev/net
mknod -m 666 tree/dev/null c 1 3
mknod -m 666 tree/dev/net/tun c 10 200
mount -t tmpfs none tree/run
mount -t tmpfs none tree/tmp
`

// TestRpmlint: rpmlint finds no fault. It unpacks the files of the package into their places, so
// it has a Debian of its own.
func TestRpmlint(t *testing.T) {
	for _, arch := range []string{"x86_64", "aarch64"} {
		file := one(t, "ipsec-klips-*."+arch+".rpm")
		skip.WithoutProgram(t, skip.Rpmlint)
		const run = onDebian + `
cp "$2" "$3" tree/tmp
chroot tree rpmlint --strict --config /tmp/rpmlint.toml /tmp/${2##*/} || :`
		config, err := filepath.Abs(filepath.Join(root, "packages/rpm/rpmlint.toml"))
		if err != nil {
			t.Fatal(err)
		}
		out := onLayer(t, exec.Command("unshare", "--mount", "--pid", "--fork", "sh", "-c", run, "sh", t.TempDir(), file, config))
		if !strings.Contains(out, "1 packages and 0 specfiles checked; 0 errors, 0 warnings") {
			t.Errorf("rpmlint %s:\n%s", arch, out)
		}
	}
}

// TestLife installs, uses, upgrades, removes and purges the .deb. The Debian is that of
// this machine, below a layer that the test throws away.
func TestLife(t *testing.T) {
	deb := one(t, "ipsec-klips_*_amd64.deb")
	script, err := filepath.Abs("life.sh")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	const enter = onDebian + `
rm -rf tree/var/lib/ipsec
cp "$2" tree/tmp/ipsec-klips.deb
cp "$3" tree/tmp/life.sh
exec chroot tree sh /tmp/life.sh /tmp/ipsec-klips.deb`
	out := onLayer(t, exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", enter, "sh", dir, deb, script))
	if want := "ok: install\nok: use\nok: upgrade\nok: remove\nok: purge\nok: conflict\n"; out != want {
		t.Errorf("it prints\n%swant\n%s", out, want)
	}
}

// onLayer runs a script that makes a layer above the Debian of this machine, and returns what
// it prints. Its status is 111 without overlay file systems, 112 without control groups.
func onLayer(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	errors.As(err, &exit)
	switch {
	case exit != nil && exit.ExitCode() == 112:
		skip.Without(t, skip.CGroup, string(out))
	case errors.Is(err, exec.ErrNotFound), exit != nil && (exit.ExitCode() == 111 || os.Geteuid() != 0):
		skip.Without(t, skip.Overlay, fmt.Sprintf("%v: %s", err, out))
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// TestBoot boots systemd with the service enabled. Connections come up at the boot, and again
// after the daemon is killed; in between, nothing leaves in clear.
func TestBoot(t *testing.T) {
	deb := one(t, "ipsec-klips_*_amd64.deb")
	if os.Geteuid() != 0 {
		skip.Without(t, skip.Root, "only root makes namespaces with devices")
	}
	skip.WithoutProgram(t, skip.SystemdAnalyze)
	skip.WithoutProgram(t, skip.IP)
	if _, err := exec.LookPath("nft"); err != nil {
		skip.Without(t, skip.NFTables, err)
	}
	skip.WithoutProgram(t, skip.Ping)
	out := onLayer(t, exec.Command("sh", "boot.sh", deb, t.TempDir()))
	want := strings.Join([]string{
		"after the boot: active, connections active, version in /run/ipsec",
		"sequence marks of 2 keys in /var/lib/ipsec",
		"the daemon has user _ipsec, capabilities: net_admin, net_raw;",
		"root 700 /run/ipsec",
		"root 600 /run/ipsec/klipsd.pid",
		"root 600 /run/ipsec/pfkey.sock",
		"_ipsec 700 /var/lib/ipsec",
		"tun0x1000@192.0.2.2",
		"a packet and its answer pass",
		"after a kill: active, connections active, 1 restart",
		"tun0x1000@192.0.2.2 tun0x2000@192.0.2.2",
		"a packet and its answer pass",
		"after a reload: tun0x1000@192.0.2.2 tun0x2000@192.0.2.2 tun0x3000@192.0.2.2",
		"after a stop of one: tun0x1000@192.0.2.2 tun0x3000@192.0.2.2",
		"after ipsec setup restart: active, connections active, another process, tun0x1000@192.0.2.2 tun0x101@192.0.2.2 tun0x3000@192.0.2.2",
		"after an upgrade: active, connections active, another process, tun0x1000@192.0.2.2 tun0x101@192.0.2.2 tun0x3000@192.0.2.2",
		"300 packets transmitted, 300 received, 0% packet loss",
		"after a stop: inactive, connections inactive, success",
		"after a start: active, connections active",
		"tun0x1000@192.0.2.2 tun0x3000@192.0.2.2",
		"ipsec setup: note: 10.0.2.0/24 can leave in clear now",
		"ipsec setup: note: 10.0.4.0/24 can leave in clear now",
		"ipsec setup: note: 10.0.6.0/24 can leave in clear now",
		"after ipsec setup stop: inactive, connections inactive",
		"after ipsec up: active, connections active",
		"the peer has received protected: yes",
		"the peer has received plain: no",
		"",
	}, "\n")
	if out != want {
		t.Errorf("it prints\n%swant\n%s", out, want)
	}
}

// TestContainer: the program works with nothing else in its container.
func TestContainer(t *testing.T) {
	deb := one(t, "ipsec-klips_*_amd64.deb")
	if os.Geteuid() != 0 {
		skip.Without(t, skip.Root, "only root makes namespaces with devices")
	}
	skip.WithoutProgram(t, skip.Setpriv)
	dir := t.TempDir()
	output(t, "dpkg-deb", "-x", deb, dir)
	got := output(t, "unshare", "--net", "--mount", "sh", "container.sh", dir+"/usr/sbin/ipsec", t.TempDir())
	if want := "IPsec running - pid: 1\nsequence marks of 0 keys in /var/lib/ipsec\ntun0x101@192.0.2.2 IPIP\n"; got != want {
		t.Errorf("in the container the commands print\n%swant\n%s", got, want)
	}
	file, err := os.ReadFile(root + "/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"FROM scratch\n", "IPSEC_RUNDIR=/run/ipsec IPSEC_STATEDIR=/var/lib/ipsec\n"} {
		if !bytes.Contains(file, []byte(want)) {
			t.Errorf("Containerfile has no %q", want)
		}
	}
}

func TestRPM(t *testing.T) {
	for _, arch := range []string{"x86_64", "aarch64"} {
		file := one(t, "ipsec-klips-*."+arch+".rpm")
		rpm := skip.WithoutProgram(t, skip.RPM)
		output(t, rpm, "-K", "--nosignature", file)
		list := output(t, rpm, "-qp", "--queryformat", `[%{FILEMODES:perms} %{FILEUSERNAME} %{FILENAMES} %{FILELINKTOS}\n]`, file)
		for _, want := range []string{
			"-rwxr-xr-x root /usr/sbin/ipsec \n", " /usr/sbin/ipsec_spi ipsec\n", "drwxr-xr-x root /etc/ipsec.d \n",
			" /usr/lib/systemd/system/ipsec.service \n", " /usr/lib/sysusers.d/ipsec-klips.conf \n",
			" /usr/share/man/man8/ipsec_spi.8.gz \n", " /usr/share/licenses/ipsec-klips/LICENSE \n",
			" /usr/share/fish/vendor_completions.d/ipsec.fish \n",
		} {
			if !strings.Contains(list, want) {
				t.Errorf("%s has no %q:\n%s", arch, want, list)
			}
		}
		if got := output(t, rpm, "-qp", "--conflicts", file); got != "freeswan\nlibreswan\nopenswan\nstrongswan\n" {
			t.Errorf("%s conflicts with %q", arch, got)
		}
	}
}

// TestAPK reads the two archives of an .apk, each a gzip member of its own: the
// description and the files.
func TestAPK(t *testing.T) {
	for _, arch := range []string{"x86_64", "aarch64"} {
		b, err := os.ReadFile(one(t, "ipsec-klips_*_"+arch+".apk"))
		if err != nil {
			t.Fatal(err)
		}
		r := bytes.NewReader(b)
		var parts []map[string]entry
		for r.Len() > 0 {
			z, err := gzip.NewReader(r)
			if err != nil {
				t.Fatal(err)
			}
			z.Multistream(false)
			parts = append(parts, readTar(t, z))
			if _, err := io.Copy(io.Discard, z); err != nil {
				t.Fatal(err)
			}
		}
		if len(parts) != 2 {
			t.Fatalf("%s has %d parts, want 2", arch, len(parts))
		}
		info := string(parts[0]["/.PKGINFO"].content)
		for _, want := range []string{"pkgname = ipsec-klips\n", "arch = " + arch + "\n", "depend = !strongswan\n", "license = MIT\n"} {
			if !strings.Contains(info, want) {
				t.Errorf("%s has no %q:\n%s", arch, want, info)
			}
		}
		if e := parts[0]["/.post-upgrade"]; !bytes.Contains(e.content, []byte("ipsec setup condrestart")) {
			t.Errorf("%s: after an upgrade it runs %q", arch, e.content)
		}
		have(t, parts[1], "/usr")
		for _, name := range []string{"/etc/init.d/ipsec", "/etc/init.d/ipsec-connections"} {
			if e := parts[1][name]; e.mode != 0o755 || !bytes.HasPrefix(e.content, []byte("#!/sbin/openrc-run\n")) || bytes.Contains(e.content, []byte("@sbindir@")) {
				t.Errorf("%s: mode %v of %s, %q", arch, e.mode, name, e.content)
			}
		}
	}
}

func TestTar(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		f, err := os.Open(one(t, "ipsec-klips-*-linux-"+arch+".tar.gz"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		entries := readTar(t, z)
		have(t, entries, "/usr/local")
		if unit := string(entries["/usr/local/lib/systemd/system/ipsec.service"].content); !strings.Contains(unit, "ExecStart=!/usr/local/sbin/ipsec klipsd\n") {
			t.Errorf("the unit does not start the daemon:\n%s", unit)
		}
	}
}

// TestForeign starts the program for arm64.
func TestForeign(t *testing.T) {
	deb := one(t, "ipsec-klips_*_arm64.deb")
	qemu := skip.WithoutProgram(t, skip.QEMUUser)
	dir := t.TempDir()
	output(t, "dpkg-deb", "-x", deb, dir)
	own, err := filepath.Abs(root + "/bin/ipsec")
	if err != nil {
		t.Fatal(err)
	}
	want := output(t, own, "--version")
	if got := output(t, qemu, dir+"/usr/sbin/ipsec", "--version"); got != want {
		t.Errorf("the program for arm64 prints %q, want %q", got, want)
	}
	if got := output(t, qemu, dir+"/usr/sbin/ipsec", "version"); !strings.HasPrefix(got, want) {
		t.Errorf("ipsec version for arm64 prints %q, want %q first", got, want)
	}
}

// TestUnit: systemd understands the units, and the rating of the daemon's is at most 2.5 of 10.
func TestUnit(t *testing.T) {
	deb := one(t, "ipsec-klips_*_amd64.deb")
	analyze := skip.WithoutProgram(t, skip.SystemdAnalyze)
	dir := t.TempDir()
	output(t, "dpkg-deb", "-x", deb, dir)
	units := dir + "/usr/lib/systemd/system/"
	file := units + "ipsec.service"
	unit, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"ExecStop", "PrivateNetwork"} {
		if bytes.Contains(unit, []byte("\n"+word)) {
			t.Errorf("the unit has %s", word)
		}
	}
	// The program is not installed here.
	for _, name := range []string{"ipsec.service", "ipsec-connections.service", "ipsec@.service"} {
		text, err := os.ReadFile(units + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(units+name, bytes.ReplaceAll(text, []byte("/usr/sbin/ipsec"), []byte(dir+"/usr/sbin/ipsec")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	output(t, analyze, "verify", "--man=no", file, units+"ipsec-connections.service", units+"ipsec@.service")
	output(t, analyze, "security", "--offline=true", "--threshold=25", "--no-pager", file)
}

// TestReproducible makes the packages again, with another mask, time zone and folder, from
// files that have other times.
func TestReproducible(t *testing.T) {
	before := sums(t, folder(t))
	err := filepath.WalkDir(root+"/packages", func(path string, _ os.DirEntry, err error) error {
		return cmp.Or(err, os.Chtimes(path, time.Time{}, time.Now()))
	})
	if err != nil {
		t.Fatal(err)
	}
	dist := t.TempDir()
	cmd := exec.Command("sh", "-c", "umask 077 && packages/build")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "TZ=Asia/Tokyo", "DIST="+dist, "TMPDIR="+t.TempDir(), "GO="+cmp.Or(os.Getenv("GO"), "go"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if after := sums(t, dist); !slices.Equal(before, after) {
		t.Errorf("the packages are\n%s\nand made again\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// sums returns the sums and names of the packages in a folder.
func sums(t *testing.T, dir string) (lines []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "ipsec-klips*"))
	if err != nil || len(files) != 8 {
		t.Fatalf("%q, %v, want 8 packages", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%x %s", sha256.Sum256(b), filepath.Base(f)))
	}
	return lines
}
