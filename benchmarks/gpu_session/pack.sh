#!/usr/bin/env bash
# pack.sh FILE.tar.gz: the session for a GPU machine without a network: sources, built libraries, and
# wheels of what such a machine lacks beside torch, triton, numpy and transformers. There: unpack, then
# benchmarks/gpu_session/run.sh --out DIR.
set -euo pipefail
file=$(realpath "${1:?usage: pack.sh FILE.tar.gz [PYTHON_VERSION]}") python=${2:-3.12}
cd "$(dirname "$0")/../.."

lacking='annotated-types|liger_kernel|megatron-core|pydantic|pydantic_core|typing-inspection'
wheels=build/session/wheels
rm -rf "$wheels" && mkdir -p "$wheels"
# shellcheck disable=SC2046
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp \
  --python-version "$python" $(printf -- '--platform %s ' manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux2014_x86_64) \
  --dest "$wheels" $(grep -E "^($lacking)==" locks/gpu.txt)

benchmarks/gpu_session/build.sh
git describe --always --dirty > COMMIT
trap 'rm -f COMMIT' EXIT
{
  git ls-files -- benchmarks configs kernels srpo_fast tests/conftest.py tests/ops CMakeLists.txt pyproject.toml LICENSE README.md
  find "$wheels" kernels/srpo_kernels -name '*.whl' -o -name 'libsrpo_*.so'
  echo COMMIT
} | tar --create --gzip --file "$file" --files-from -
echo "$file: $(($(stat -c %s "$file") >> 10)) KiB"
