#include "base/hash_kernel_body.h"

namespace memkv::base {

const HashKernel kHashKernelAvx512 = {"avx512", hash, copy, reset, update, digest};

}  // namespace memkv::base
