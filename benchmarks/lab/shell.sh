#!/bin/sh
# hydra hands its remote shell ssh's options, the host, and the command.
while [ "${1#-}" != "$1" ]; do shift; done
number=${1##*.}; shift
exec "FOLDER/enter" "PREFIX$number" "host$((number - 10))" sh -c "$*"
