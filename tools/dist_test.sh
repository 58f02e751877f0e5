#!/usr/bin/env bash
# Usage: dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py]
# Several nodes: run it on each with NNODES, NODE_RANK, MASTER_ADDR (and PORT) set.
# Without a GPU, GPUS processes test on the CPU (gloo).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/launch.sh"

USAGE='usage: dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py]'
torchrun_tool "${3:?$USAGE}" test.py "${1:?$USAGE}" "${2:?$USAGE}" "${@:4}"
