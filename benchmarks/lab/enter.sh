#!/bin/sh
# Runs words in a namespace, under a host's name: files are shared, as on a cluster, but for the
# names of hosts; /dev/shm and System V's memory are not. `ip netns exec` would hide the cgroups
# that slurmd needs.
namespace=$1; name=$2; shift 2
exec nsenter --net="/run/netns/$namespace" unshare --uts --ipc --mount sh -c '
    hostname "$0" && mount -t tmpfs shm /dev/shm && mount --bind "FOLDER/names" /etc/hosts &&
    exec "$@"' "$name" "$@"
