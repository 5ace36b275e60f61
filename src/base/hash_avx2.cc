#include "base/hash_kernel_body.h"

namespace memkv::base {

const HashKernel kHashKernelAvx2 = {"avx2", hash, copy, reset, update, digest};

}  // namespace memkv::base
