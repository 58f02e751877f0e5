#!/usr/bin/env bash
# A Slurm cluster of one node, this machine, for tests/test_tools/test_slurm.py; it needs no system
# service. Usage, as root (Debian: apt-get install slurm-wlm munge):
#
#   tests/slurm_cluster.sh up FOLDER      # then: export SLURM_CONF=FOLDER/slurm.conf
#   tests/slurm_cluster.sh down FOLDER
#
# The node claims two cores and two GPUs, which need not be there: the launchers run as they are.
# Slurm's own time-outs, some of seconds, are such that a slow or busy machine does not meet them.
set -euo pipefail

command=${1:?up or down}
folder=$(realpath -m "${2:?a folder for keys, states and logs}")
export SLURM_CONF=$folder/slurm.conf

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
}

configure() {
    cat >"$SLURM_CONF" <<CONF
ClusterName=tests
SlurmctldHost=$(hostname -s)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=5
MessageTimeout=100
TCPTimeout=60
BatchStartTimeout=600
UnkillableStepTimeout=600
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=$(hostname -s) CPUs=2 Gres=gpu:2 State=UNKNOWN
PartitionName=tests Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    printf 'Name=gpu File=%s\n' /dev/null /dev/zero >"$folder/gres.conf"
}

up() {
    mkdir -p "$folder"/{state,spool}
    configure
    head -c 1024 /dev/urandom >"$folder/munge.key"
    chmod 600 "$folder/munge.key"
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
        --pid-file="$folder/munge.pid" --log-file="$folder/munge.log" \
        --seed-file="$folder/munge.seed"
    slurmctld
    slurmd
    for _ in $(seq 300); do
        [ "$(sinfo -h -o %t 2>/dev/null)" != idle ] || return 0
        sleep 1
    done
    echo "error: the node did not come up; see $folder/slurm*.log" >&2
    down
    exit 1
}

down() {
    local file
    scancel --user="$(id -un)" 2>/dev/null || true
    for file in slurmd slurmctld munge; do
        [ ! -s "$folder/$file.pid" ] || kill "$(cat "$folder/$file.pid")" 2>/dev/null || true
    done
}

case $command in
up | down) "$command" ;;
*)
    echo "usage: $0 up|down FOLDER" >&2
    exit 2
    ;;
esac
