# Makes a node's own view of the machine's files, in a mount namespace of its own, and holds it until it is killed.
# Arguments: the node's folder, the folder with Kubernetes' programs.
set -e
folder=$1 programs=$2

# Its own /run, /var/lib and /var/log: what runs here finds the usual paths, and neither the machine nor another node sees what it writes there.
# All of it is in memory and goes with the last process of this mount namespace.
# -n: what the machine notes about mounts in its /run is not about these.
stage=$folder/run
mkdir -p "$stage"
mount -n -t tmpfs -o mode=755 node "$stage"
mkdir -p "$stage/weft-node/programs" "$stage/lock" "$stage/netns"
mount -n --bind "$folder/settings" "$stage/weft-node"
mount -n --bind "$programs" "$stage/weft-node/programs"
mount -n -t tmpfs -o mode=755 node /var/lib
mount -n -t tmpfs -o mode=755 node /var/log
mount -n --move "$stage" /run

# The kubelet sets these for the whole machine: here it sets copies.
for name in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    copy=/run/weft-node/sysctl/$name
    mkdir -p "${copy%/*}"
    cat "/proc/sys/$name" >"$copy"
    mount -n --bind "$copy" "/proc/sys/$name"
done

mount -n -t bpf node /sys/fs/bpf
# pods may ask for mounts that others see
mount -n --make-rshared /
echo ready
exec sleep infinity
