# Boots systemd with the package installed and its service enabled, in namespaces on a layer
# above the Debian of this machine. The arguments are the package and an empty folder. It
# prints what the last unit of the boot finds, and what a peer in another network namespace
# has received. Status 111: overlay file systems are missing, 112: control groups.
set -eu
deb=$1
cd "$2"

if mountpoint -q /sys/fs/cgroup/systemd; then
	groups=/sys/fs/cgroup/systemd cgroup="-t cgroup -o none,name=systemd none sys/fs/cgroup/systemd"
else
	groups=/sys/fs/cgroup cgroup="-t cgroup2 none sys/fs/cgroup"
fi
group=$groups/ipsec-test-$$
mkdir "$group" || exit 112
end() {
	find "$group" -depth -type d -exec rmdir {} + || :
}
trap end EXIT
export deb group cgroup

cat >enter <<'END'
echo $$ >"$group/cgroup.procs" || exit 112
exec timeout 120 unshare --cgroup --mount --net --pid --uts --ipc --fork --kill-child sh -e boot
END
cat >boot <<'END'
mkdir layer tree
mount -t tmpfs none layer
mkdir layer/upper layer/work
mount -t overlay -o lowerdir=/,upperdir=layer/upper,workdir=layer/work none tree || exit 111
cp check tree/usr/local/check
cp peer net.conf tree/usr/local
cd tree
mount -t proc none proc
mount -t sysfs -o ro none sys
mount -t tmpfs none sys/fs/cgroup
mkdir sys/fs/cgroup/systemd
mount $cgroup
mount -t tmpfs -o mode=755 none dev
mkdir dev/net dev/shm dev/pts
for node in null:3 zero:5 random:8 urandom:9; do mknod -m 666 dev/${node%:*} c 1 ${node#*:}; done
mknod -m 666 dev/net/tun c 10 200
mount -t tmpfs -o mode=755 none run
mount -t tmpfs none tmp
rm -rf var/lib/ipsec
cp "$deb" tmp/ipsec-klips.deb
chroot . dpkg -i /tmp/ipsec-klips.deb >tmp/log 2>&1 || { cat tmp/log; exit 1; }
rm -f etc/systemd/system/*.wants/* lib/systemd/system/*.wants/*
chroot . systemctl --quiet enable ipsec.service
# The address comes with the network, and is not there before
printf '[Unit]\nBefore=network.target network-online.target\n[Service]\nType=oneshot\nExecStart=ip addr add 192.0.2.1/24 dev eth0\nExecStart=ip route add default via 192.0.2.2\n' >etc/systemd/system/address.service
mkfifo tmp/ready
unshare --net sh -c 'echo >tmp/ready; exec sleep infinity' &
peer=$!
read line <tmp/ready
ip link add eth0 type veth peer name eth0 netns $peer
for link in lo eth0; do ip link set $link up; done
ip addr add 10.0.1.1/32 dev lo
install -m 600 usr/local/net.conf etc/ipsec.d/net.conf
at() { nsenter --net=proc/$peer/ns/net chroot . env IPSEC_RUNDIR=/tmp/peer sh -e /usr/local/peer "$@"; }
at start >tmp/log 2>&1 || { cat tmp/log; exit 1; }
printf '[Unit]\nAfter=ipsec-connections.service\n[Service]\nType=oneshot\nStandardOutput=file:/tmp/found\nStandardError=file:/tmp/found\nExecStart=sh /usr/local/check\nExecStopPost=systemctl exit 0\n' >etc/systemd/system/check.service
mkdir -p etc/systemd/system/multi-user.target.wants
ln -s ../check.service ../address.service etc/systemd/system/multi-user.target.wants/
env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin unshare --pid --fork --mount-proc=proc chroot . /lib/systemd/systemd --unit=multi-user.target --log-target=null || :
cat tmp/found
at count
END
cat >peer <<'END'
case $1 in
start)
	ip addr add 192.0.2.2/24 dev eth0
	for link in lo eth0; do ip link set $link up; done
	ip addr add 10.0.2.1/32 dev lo
	nft 'table ip test { counter protected { }; counter plain { }; chain in { type filter hook prerouting priority -300;
		iifname eth0 ip protocol esp counter name protected; iifname eth0 ip saddr 10.0.0.0/8 counter name plain; }; }'
	ipsec up net second third;;
count)
	nft list counters table ip test | awk '/counter/ { name = $2 } /packets/ { print "the peer has received " name ": " ($2 ? "yes" : "no") }'
	ipsec setup stop;;
esac
END
cat >net.conf <<'END'
conn net
	also=ends
	leftsubnet=10.0.1.0/24
	rightsubnet=10.0.2.0/24
	spibase=0x1000
	auto=start
conn second
	also=ends
	leftsubnet=10.0.3.0/24
	rightsubnet=10.0.4.0/24
	spibase=0x2000
conn third
	also=ends
	leftsubnet=10.0.5.0/24
	rightsubnet=10.0.6.0/24
	spibase=0x3000
conn ends
	left=192.0.2.1
	right=192.0.2.2
	esp=aes128-sha1
	espreplay_window=64
	espenckey=0x01020304_05060708_090a0b0c_0d0e0f10
	espauthkey=0x11121314_15161718_191a1b1c_1d1e1f20_21222324
END
cat >check <<'END'
state() { systemctl show -p ActiveState --value "${1:-ipsec}"; }
states() { echo "$(state), connections $(state ipsec-connections)"; }
tunnels() { echo $(ipsec spi | sed -n 's/ IPIP.*dir=out.*//p' | sort); }
main() { systemctl show -p MainPID --value ipsec; }
through() { ping -q -c 1 -W 5 -I 10.0.1.1 10.0.2.1 >/dev/null && echo "a packet and its answer pass"; }
await() {
	i=0
	until "$@" || [ $i = 300 ]; do
		i=$((i + 1))
		sleep 0.1
	done
}
up() { [ "$(states)" = "active, connections active" ]; }
again() { [ "$(systemctl show -p NRestarts --value ipsec)" = 1 ] && up && [ "$(tunnels)" != "" ]; }
# What a user does, who is in no unit
user() { env -u INVOCATION_ID "$@"; }

echo "after the boot: $(states), $(systemctl show -p StatusText --value ipsec | cut -d' ' -f1,3-)"
ipsec setup status | sed -n 's/ given up: priv.*//p; /^sequence marks/p'
p=$(main)
[ "$p" != 0 ] || exit 1
stat -c '%U %a %n' /run/ipsec /run/ipsec/klipsd.pid /run/ipsec/pfkey.sock /var/lib/ipsec
tunnels
through

ipsec up second
ping -q -i 0.02 -I 10.0.1.1 10.0.2.1 >/dev/null 2>&1 &
flood=$!
kill -KILL $p
await again
kill -INT $flood
wait $flood
echo "after a kill: $(states), $(systemctl show -p NRestarts --value ipsec) restart"
tunnels
through

sed -i 's/^conn third$/&\n\tauto=start/' /etc/ipsec.d/net.conf
systemctl reload ipsec
echo "after a reload:" $(tunnels)
systemctl reload ipsec-connections
systemctl start ipsec@second
systemctl reload ipsec@second
systemctl stop ipsec@second
echo "after a stop of one:" $(tunnels)

ipsec spi --said tun0x101@192.0.2.2 --ip4 --src 192.0.2.1 --dst 192.0.2.2
ping -q -c 300 -i 0.02 -I 10.0.1.1 10.0.2.1 >pings &
pings=$!
p=$(main)
renewed() { echo "$(states), $([ "$p" != "$(main)" ] && echo another process), $(tunnels)"; }
ipsec setup restart
echo "after ipsec setup restart: $(renewed)"
p=$(main)
dpkg -i /tmp/ipsec-klips.deb >/tmp/log 2>&1 || cat /tmp/log
echo "after an upgrade: $(renewed)"
wait $pings || :
sed -n 's/, time .*//p' pings

systemctl stop ipsec
echo "after a stop: $(states), $(systemctl show -p Result --value ipsec)"
systemctl start ipsec-connections
echo "after a start: $(states)"
tunnels
user ipsec setup stop
echo "after ipsec setup stop: $(states)"
user ipsec up second
await up
echo "after ipsec up: $(states)"
END
sh -e enter
