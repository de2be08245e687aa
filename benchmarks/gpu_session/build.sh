#!/usr/bin/env bash
# The native libraries beside their Python sources, unless both are there and can be loaded here.
set -euo pipefail
cd "$(dirname "$0")/../.."
loads() { python3 -c "import ctypes, sys; [ctypes.CDLL(f'kernels/srpo_kernels/libsrpo_{n}.so') for n in sys.argv[1:]]" "$@" 2>/dev/null; }
loads native cuda && exit
cmake -S . -B build/session/native >/dev/null
cmake --build build/session/native >/dev/null
cmake --install build/session/native --prefix kernels >/dev/null
loads native cuda || echo "built, but not all of it loads: $(ls kernels/srpo_kernels/libsrpo_*.so)"
