#!/usr/bin/env bash
# Usage: dist_train.sh CONFIG GPUS [options of train.py]
# Several nodes: run it on each with NNODES, NODE_RANK, MASTER_ADDR (and PORT) set.
# Without a GPU, GPUS processes train on the CPU (gloo).
set -euo pipefail

CONFIG=${1:?usage: dist_train.sh CONFIG GPUS [options of train.py]}
GPUS=${2:?usage: dist_train.sh CONFIG GPUS [options of train.py]}
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$TOOLS/python.sh"

"$PYTHON" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node-rank="${NODE_RANK:-0}" \
    --nproc-per-node="$GPUS" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" \
    --master-port="${PORT:-29500}" \
    "$TOOLS/train.py" "$CONFIG" --launcher pytorch "${@:3}"
