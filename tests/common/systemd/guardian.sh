# Boots a machine in directory $1, prints its leader's process id, waits for the end of standard input, and takes it all down.
# Script $2 makes the machine a fresh host. The files below $3, if that is not empty, are there as if they were the host's. $4 is
# the host's root, or that of another system.
set -u
umask 022
state=$1 fresh=$2 leftovers=$3 system=$4
root=$state/root layers=$state/layers
group=$(basename "$state")
trap '' HUP INT TERM

# Where nspawn may put its groups: with the old hierarchies beside the new one there are two such places.
hierarchies=
for hierarchy in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
    [ -e "$hierarchy/cgroup.procs" ] && hierarchies="$hierarchies $hierarchy"
done

down() {
    if [ -n "${nspawn-}" ]; then
        # SIGRTMIN+4 asks for a power-off; 100 looks later it is no longer asked.
        [ -z "${leader-}" ] || kill -38 "$leader" 2>/dev/null
        looks=0
        while kill -0 "$nspawn" 2>/dev/null && [ $looks -lt 100 ]; do sleep 0.1; looks=$((looks + 1)); done
        [ -z "${leader-}" ] || kill -KILL "$leader" 2>/dev/null
        kill -KILL "$nspawn" 2>/dev/null
        wait "$nspawn" 2>/dev/null
    fi
    for mount in "$root" "$state/fresh" "$layers"; do
        looks=0
        while mountpoint -q "$mount" && ! umount "$mount" 2>/dev/null && [ $looks -lt 50 ]; do
            sleep 0.1; looks=$((looks + 1))
        done
    done
    for hierarchy in $hierarchies; do
        [ ! -d "$hierarchy/$group" ] || find "$hierarchy/$group" -depth -type d -exec rmdir {} + 2>/dev/null
    done
    rm -rf --one-file-system "$state"
}
failed() { echo "$1" >&2; cat "$state/console" >&2 2>/dev/null; down; exit 1; }

# Layers, from the bottom up: this host or the other system, what a test adds to it, what makes that a fresh host, what the machine writes.
mkdir "$root" "$state/fresh" "$layers"
mount -t tmpfs -o mode=755 tmpfs "$layers" || failed "cannot mount a tmpfs"
mkdir "$layers/leftovers" "$layers/fresh" "$layers/fresh-work" "$layers/writes" "$layers/writes-work"
[ -z "$leftovers" ] || cp -R "$leftovers/." "$layers/leftovers" || failed "cannot copy $leftovers"
host=$layers/leftovers:$system
# To an overlay such a device is a file that was removed.
for directory in home root srv; do
    mknod "$layers/fresh/$directory" c 0 0 || failed "cannot hide /$directory"
done
mount -t overlay -o "lowerdir=$host,upperdir=$layers/fresh,workdir=$layers/fresh-work" overlay "$root" ||
    failed "cannot mount an overlay"
chroot "$root" sh -c "$fresh" fresh || failed "cannot make a fresh host of the overlay"
umount "$root" || failed "cannot unmount the overlay"
# By itself, to see what was written since; and below what the machine writes.
mount -t overlay -o "ro,lowerdir=$layers/fresh:$host" overlay "$state/fresh" &&
    mount -t overlay -o "lowerdir=$layers/fresh:$host,upperdir=$layers/writes,workdir=$layers/writes-work" overlay "$root" ||
    failed "cannot mount an overlay of several layers"

for hierarchy in $hierarchies; do mkdir -p "$hierarchy/$group"; done
# A systemd from 256 on does not boot with the old hierarchies.
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
setsid sh -c 'for group in "$@"; do echo $$ >"$group/cgroup.procs"; done
    exec systemd-nspawn --quiet --register=no --keep-unit --private-network --console=pipe -D "$0" --boot' \
    "$root" $(for hierarchy in $hierarchies; do echo "$hierarchy/$group"; done) \
    </dev/null >"$state/console" 2>&1 &
nspawn=$!

looks=0
until leader=$(tr -d ' ' <"/proc/$nspawn/task/$nspawn/children" 2>/dev/null) && [ -n "$leader" ] &&
    nsenter -t "$leader" -m -p -n -i -u -C systemctl is-system-running 2>/dev/null | grep -qE '^(running|degraded)$'; do
    kill -0 "$nspawn" 2>/dev/null || failed "systemd-nspawn has ended"
    looks=$((looks + 1))
    [ $looks -lt 600 ] || failed "systemd does not boot"
    sleep 0.1
done
echo "$leader"
cat >/dev/null
down
