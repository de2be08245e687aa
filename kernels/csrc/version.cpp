#include "srpo_native.h"

int32_t srpo_abi_version() { return SRPO_ABI_VERSION; }
