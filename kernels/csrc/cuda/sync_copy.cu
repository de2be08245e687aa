// Weights from the trainer's layout into the engine's, all tensors of a model in one launch: a block copies one tile of
// sync_copy.h's table. The specification is reference/sync_copy.py; sync_copy.py builds the table.
#include "../sync_copy.h"

// srpo_kernels/sync_copy.py refuses a library of another version: raise both with any change of the table.
#define SRPO_CUDA_ABI_VERSION 1
#define SRPO_CUDA_API extern "C" __attribute__((visibility("default")))

namespace {

constexpr int THREADS = 256;

__global__ void __launch_bounds__(THREADS) sync_copy(const SrpoRowCopy* copies, int num_copies) {
    copy_tile(copies, num_copies, blockIdx.x, threadIdx.x, THREADS);
}

}  // namespace

SRPO_CUDA_API int32_t srpo_cuda_abi_version() { return SRPO_CUDA_ABI_VERSION; }

// copies [num_copies] in the GPU's memory; returns a cudaError_t
SRPO_CUDA_API int32_t srpo_sync_copy(const SrpoRowCopy* copies, int32_t num_copies, int64_t num_tiles, void* stream) {
    if (num_tiles == 0) return cudaSuccess;
    sync_copy<<<static_cast<unsigned>(num_tiles), THREADS, 0, static_cast<cudaStream_t>(stream)>>>(copies, num_copies);
    return cudaGetLastError();
}
