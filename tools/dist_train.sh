#!/usr/bin/env bash
# Usage: dist_train.sh CONFIG GPUS [options of train.py]
# Several nodes: run it on each with NNODES, NODE_RANK, MASTER_ADDR (and PORT) set.
# Without a GPU, GPUS processes train on the CPU (gloo).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/launch.sh"

USAGE='usage: dist_train.sh CONFIG GPUS [options of train.py]'
torchrun_tool "${2:?$USAGE}" train.py "${1:?$USAGE}" "${@:3}"
