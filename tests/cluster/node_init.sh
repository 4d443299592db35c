# The first process of a node, in new process and mount namespaces. $1 is the node's folder.
# When it dies, the kernel kills every process of the node and removes its mounts.
set -eu
node=$1

# The kubelet shares mounts with containers; nothing of it reaches the machine.
mount --make-rshared /
# A mount that is kept here would keep a disk busy after the machine has unmounted it.
mounts=$(cat /proc/self/mountinfo)
printf '%s\n' "$mounts" | while read -r _ _ _ _ target rest; do
    [ "$target" != / ] || continue
    case $rest in *" - nsfs "* | *" - fuse"* | *" - overlay "* | *" /dev/loop"*) umount -l "$target" 2>/dev/null || true ;; esac
done

mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
mount --bind "$node/lib" /var/lib
mount --bind "$node/log" /var/log

# The kubelet sets these; the machine keeps its own. A pod with a user namespace may mount /proc only if a complete one
# is mounted already: the second.
mkdir -p /run/sysctl /run/proc
mount -t proc proc /run/proc
fix() { # file, value
    printf '%s\n' "$2" >"/run/sysctl/${1##*/}"
    mount --bind "/run/sysctl/${1##*/}" "/proc/sys/$1"
}
fix vm/overcommit_memory 1
fix vm/panic_on_oom 0
fix kernel/panic 10
fix kernel/panic_on_oops 1
fix kernel/keys/root_maxkeys 1000000
fix kernel/keys/root_maxbytes 25000000

: >"$node/started"
# Ignored, so that the kernel reaps what containerd's shims leave.
trap '' CHLD
exec sleep infinity
