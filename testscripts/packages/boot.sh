# Boots systemd with the package installed and its service enabled, in namespaces on a layer
# above the Debian of this machine. The arguments are the package and an empty folder. It
# prints what the last unit of the boot finds. Status 111: overlay file systems are missing,
# 112: control groups.
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
printf '[Unit]\nAfter=ipsec.service\n[Service]\nType=oneshot\nStandardOutput=file:/tmp/found\nStandardError=file:/tmp/found\nExecStart=sh /usr/local/check\nExecStopPost=systemctl exit 0\n' >etc/systemd/system/check.service
mkdir -p etc/systemd/system/multi-user.target.wants
ln -s ../check.service etc/systemd/system/multi-user.target.wants/
env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin unshare --pid --fork --mount-proc=proc chroot . /lib/systemd/systemd --unit=multi-user.target --log-target=null || :
cat tmp/found
END
cat >check <<'END'
state() { systemctl show -p ActiveState --value ipsec; }
echo "after the boot: $(state), $(systemctl show -p StatusText --value ipsec | cut -d' ' -f1,3-)"
ipsec setup status | sed -n 's/ given up: priv.*//p; /^sequence marks/p'
p=$(systemctl show -p MainPID --value ipsec)
[ "$p" != 0 ] || exit 1
stat -c '%U %a %n' /run/ipsec /run/ipsec/klipsd.pid /run/ipsec/pfkey.sock /var/lib/ipsec
kill -KILL $p
i=0
until [ "$(systemctl show -p NRestarts --value ipsec) $(state)" = "1 active" ] || [ $i = 300 ]; do
	i=$((i + 1))
	sleep 0.1
done
echo "after a kill: $(state), $(systemctl show -p NRestarts --value ipsec) restart"
ipsec spi --said tun0x101@192.0.2.2 --ip4 --src 192.0.2.1 --dst 192.0.2.2
ipsec spi | cut -d: -f1
systemctl stop ipsec
echo "after a stop: $(state), $(systemctl show -p Result --value ipsec)"
systemctl start ipsec
echo "after a start: $(state)"
ipsec setup status | sed -n '/^sequence marks/p'
END
sh -e enter
