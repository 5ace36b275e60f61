#include "base/hash_kernel_body.h"

namespace memkv::base {

const HashKernel kHashKernelV2 = {"v2", hash, copy, reset, update, digest};

}  // namespace memkv::base
