# Compiles libsrpo_cuda with nvcc. CUDA is not made a language of the project, for then an nvcc that cannot compile (no
# host compiler of its liking, no toolkit beside it) would end the whole set-up; here it costs the library alone.
# The machine code is for A100 and Hopper; other GPUs compile the PTX when it is loaded.
execute_process(
  COMMAND
    ${NVCC} -O3 -std=c++17 -shared -Xcompiler -fPIC,-fvisibility=hidden --threads 2
    -gencode arch=compute_80,code=[sm_80,compute_80] -gencode arch=compute_90a,code=sm_90a ${SOURCE} -o ${TARGET}
  RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said TIMEOUT 120
)
if(failed)
  file(REMOVE ${TARGET})
  message(WARNING "no CUDA library: ${NVCC} failed (${failed}); sync_copy takes one copy a tensor\n${said}")
endif()
