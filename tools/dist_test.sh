#!/usr/bin/env bash
# Usage: dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py]
# Several nodes: run it on each with NNODES, NODE_RANK, MASTER_ADDR (and PORT) set.
# Without a GPU, GPUS processes test on the CPU (gloo).
set -euo pipefail

CONFIG=${1:?usage: dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py]}
CHECKPOINT=${2:?usage: dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py]}
GPUS=${3:?usage: dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py]}
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$TOOLS/python.sh"

"$PYTHON" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node-rank="${NODE_RANK:-0}" \
    --nproc-per-node="$GPUS" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" \
    --master-port="${PORT:-29500}" \
    "$TOOLS/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "${@:4}"
