# The life of the .deb on a Debian, in a chroot: installation, use, upgrade, removal, purge.
# The argument is the package. It prints one line for each step that is as it should be.
set -eu
deb=$1
export LC_ALL=C DEBIAN_FRONTEND=noninteractive IPSEC_STACK=user

quiet() {
	"$@" >/tmp/log 2>&1 || { echo "$*:"; cat /tmp/log; exit 1; }
}
ok() { echo "ok: $1"; }
same() { [ "$2" = "$3" ] || { echo "$1: $2, want $3"; exit 1; }; }

cp /etc/passwd /etc/group /tmp
quiet dpkg -i "$deb"
same user "$(getent passwd _ipsec | cut -d: -f6-)" "/:/usr/sbin/nologin"
same folder "$(stat -c '%U %a' /etc/ipsec.d)" "root 755"
same version "$(ipsec --version | cut -d' ' -f1)" ipsec
same link "$(ipsec_spi --help | head -n 1 | cut -d: -f1)" ipsec_spi
same page "$(zcat /usr/share/man/man8/ipsec_spi.8.gz | grep -c '^\.Sh NAME')" 1
[ ! -e /etc/systemd/system/multi-user.target.wants/ipsec.service ]
ok install

quiet ipsec setup start
ipsec setup status >/tmp/status
grep -q '^the daemon has user _ipsec, capabilities: net_admin, net_raw' /tmp/status || { cat /tmp/status; exit 1; }
ipsec spi --said tun0x101@192.0.2.2 --ip4 --src 192.0.2.1 --dst 192.0.2.2
ipsec manual --config /usr/share/doc/ipsec-klips/examples/net.conf --iam 192.0.2.1@ipsec0 --showonly --up net >/tmp/shown
grep -q tun0x1000@ /tmp/shown || { cat /tmp/shown; exit 1; }
ok use

echo 'conn mine' >/etc/ipsec.d/mine.conf
touch /var/lib/ipsec/mark
pid() { ipsec setup status | sed -n 's/.*pid: //p'; }
before=$(pid)
quiet dpkg -i "$deb"
[ "$before" != "$(pid)" ]
ipsec spi | grep -q tun0x101@192.0.2.2
[ -e /etc/ipsec.d/mine.conf ] && [ -e /var/lib/ipsec/mark ]
quiet ipsec setup restart
ipsec spi | grep -q tun0x101@192.0.2.2
quiet ipsec setup stop
ok upgrade

ln -sf /usr/lib/systemd/system/ipsec.service /etc/systemd/system/multi-user.target.wants/ipsec.service
rm /etc/ipsec.d/mine.conf
quiet dpkg -r ipsec-klips
[ ! -e /usr/sbin/ipsec ] && [ ! -e /usr/sbin/ipsec_spi ]
[ -e /var/lib/ipsec/mark ] && getent passwd _ipsec >/dev/null
ok remove

quiet dpkg -P ipsec-klips
rm -rf /run/ipsec # a boot does this
same "names that are left" "$(find / -xdev -name '*ipsec*' ! -path '/proc/*' ! -path "$deb" -newer /tmp/passwd)" ""
cmp /etc/passwd /tmp/passwd
cmp /etc/group /tmp/group
ok purge

# Another owner of the program
mkdir -p /tmp/other/DEBIAN
printf 'Package: strongswan-starter\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: other\n' >/tmp/other/DEBIAN/control
quiet dpkg-deb -b /tmp/other /tmp/other.deb
quiet dpkg -i /tmp/other.deb
if dpkg -i "$deb" >/tmp/log 2>&1; then
	echo "it is installed beside strongswan-starter"
	exit 1
fi
grep -q 'conflicting packages' /tmp/log
quiet dpkg -P strongswan-starter
ok conflict
