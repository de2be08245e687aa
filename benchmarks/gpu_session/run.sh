#!/usr/bin/env bash
# run.sh [arguments of benchmarks.gpu_session]: the session where pack.sh's file was unpacked, without a network.
set -euo pipefail
cd "$(dirname "$0")/../.."
site=$PWD/build/session/site
[ -d "$site" ] || python3 -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile \
  --target "$site" build/session/wheels/*.whl
benchmarks/gpu_session/build.sh || echo "no native libraries: slower twins are measured in their place"
PYTHONPATH=$PWD:$PWD/kernels:$site${PYTHONPATH:+:$PYTHONPATH} exec python3 -m benchmarks.gpu_session "$@"
