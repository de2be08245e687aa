// The C interface of libsrpo_native. Callers own every buffer and have checked sizes and types; the specification of
// each function is the one of its name in srpo_kernels/reference.py.
#pragma once

#include <cstdint>

// srpo_kernels/native.py refuses a library of another version: raise both with any change of a signature.
#define SRPO_ABI_VERSION 1

#define SRPO_API extern "C" __attribute__((visibility("default")))

SRPO_API int32_t srpo_abi_version();

SRPO_API void srpo_pack_sequences(const int64_t* lengths, int64_t num_sequences, int64_t budget, int64_t* bins);
