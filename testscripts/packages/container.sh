# What Containerfile and the command in README.md make: process 1 is the program, in a root
# with nothing else, with two capabilities and the TUN device. The arguments are the program
# and an empty folder. It runs commands there, and prints what they print.
set -eu
program=$1
cd "$2"
caps=-all,+net_admin,+net_raw
export program caps IPSEC_RUNDIR=/run/ipsec IPSEC_STATEDIR=/var/lib/ipsec IPSEC_STACK=user

cat >first <<'END'
mkdir root
mount -t tmpfs none root
mkdir -p root/proc root/dev/net root/sbin
cp "$program" root/sbin/ipsec
mount -t proc none root/proc
mknod -m 666 root/dev/net/tun c 10 200
mknod -m 666 root/dev/null c 1 3
exec setpriv --inh-caps $caps --bounding-set $caps,+sys_chroot chroot root /sbin/ipsec klipsd 2>log
END
inside() {
	nsenter -t $pid -m -p setpriv --inh-caps $caps --bounding-set $caps,+sys_chroot chroot "$PWD/root" /sbin/ipsec "$@"
}

unshare --mount --pid --fork sh -e first &
first=$!
until pid=$(pgrep -P $first) && inside setup status >status 2>/dev/null; do
	kill -0 $first || { cat log; exit 1; }
	sleep 0.05
done
sed -n '1p; /^sequence marks/p' status
inside spi --said tun0x101@192.0.2.2 --ip4 --src 192.0.2.1 --dst 192.0.2.2
inside spi | cut -d: -f1
kill -TERM $pid
wait $first
