/// memkv-nixl-gpu-check PLUGIN SERVERS: moves tensors of a real GPU through the plugin and compares every byte. For
/// machines with one; the tests use a stand-in runtime (tests/support/fake_cudart), on which this runs too.

#include <dlfcn.h>
#include <fmt/core.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "abi.h"
#include "cudart.h"
#include "tests/support/pattern.h"

namespace memkv::nixl {
namespace {

using Bytes = std::vector<unsigned char>;
using Seconds = std::chrono::duration<double>;

[[noreturn]] void stop(const std::string& why) {
  fmt::print(stderr, "gpu-check: {}\n", why);
  std::exit(1);
}

void must(bool condition, const char* what) {
  if (!condition) stop(std::string(what) + " failed");
}

/// The runtime's calls that only this program needs.
struct Gpu {
  const CudaRuntime& runtime;
  CudaStatus (*malloc)(void**, size_t) = nullptr;
  CudaStatus (*free)(void*) = nullptr;
  CudaStream stream = nullptr;

  explicit Gpu(const CudaRuntime& from) : runtime(from) {
    // The library's own handle is not kept: a symbol's address tells which it was.
    Dl_info info{};
    must(dladdr(reinterpret_cast<void*>(from.SetDevice), &info) != 0, "dladdr");
    void* library = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    must(library != nullptr, "dlopen of the runtime");
    malloc = reinterpret_cast<decltype(malloc)>(dlsym(library, "cudaMalloc"));
    free = reinterpret_cast<decltype(free)>(dlsym(library, "cudaFree"));
    must(malloc && free, "finding cudaMalloc and cudaFree");
    must(runtime.StreamCreateWithFlags(&stream, kCudaStreamNonBlocking) == kCudaSuccess, "a stream");
  }
  void copy(void* to, const void* from, size_t bytes, CudaCopyKind kind) const {
    must(runtime.MemcpyAsync(to, from, bytes, kind, stream) == kCudaSuccess, "cudaMemcpyAsync");
    must(runtime.StreamSynchronize(stream) == kCudaSuccess, "cudaStreamSynchronize");
  }
};

/// The backend, called as NIXL's agent calls it.
class Agent {
 public:
  Agent(const char* path, const std::string& servers) {
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) stop(dlerror());
    const auto init = reinterpret_cast<const abi::Plugin* (*)()>(dlsym(library, "nixl_plugin_init"));
    must(init != nullptr, "finding nixl_plugin_init");
    plugin_ = init();
    abi::Params params{{"servers", servers}, {"write_mode", "replace"}};
    abi::InitParams start;
    start.agent = "gpu-check";
    start.type = "MEMKV";
    start.params = &params;
    backend_ = plugin_->create(&start);
    must(backend_ != nullptr, "making the backend");
  }
  ~Agent() { plugin_->destroy(backend_); }
  Agent(const Agent&) = delete;

  abi::Metadata* add(void* memory, size_t bytes, abi::Memory kind, const std::string& key = "") {
    abi::BlobDesc desc;
    desc.address = reinterpret_cast<uintptr_t>(memory);
    desc.length = bytes;
    desc.meta_info = key;
    abi::Metadata* out = nullptr;
    must(backend_->registerMem(desc, kind, out) == abi::Status::kSuccess, "a registration");
    return out;
  }
  void remove(abi::Metadata* metadata) { backend_->deregisterMem(metadata); }

  /// All of an object, to or from each of the memories. Seconds.
  double run(abi::Operation operation, abi::Memory kind, const std::vector<void*>& memories,
             const std::vector<abi::Metadata*>& registered, size_t bytes, const std::string& key) {
    abi::Metadata* object = add(nullptr, bytes, abi::Memory::kObject, key);
    abi::MetaList local, remote;
    local.memory = kind;
    remote.memory = abi::Memory::kObject;
    for (size_t i = 0; i < memories.size(); ++i) {
      local.descs.push_back({{reinterpret_cast<uintptr_t>(memories[i]), bytes, 0}, registered[i]});
      remote.descs.push_back({{0, bytes, 0}, object});
    }
    abi::RequestHandle* handle = nullptr;
    const abi::OptionalArgs args;
    must(backend_->prepXfer(operation, local, remote, "gpu-check", handle, &args) == abi::Status::kSuccess, "prepXfer");
    const auto since = std::chrono::steady_clock::now();
    abi::Status status = backend_->postXfer(operation, local, remote, "gpu-check", handle, &args);
    while (status == abi::Status::kInProgress) status = backend_->checkXfer(handle);
    const Seconds took = std::chrono::steady_clock::now() - since;
    must(status == abi::Status::kSuccess, "a transfer");
    must(backend_->releaseReqH(handle) == abi::Status::kSuccess, "releaseReqH");
    remove(object);
    return took.count();
  }

 private:
  const abi::Plugin* plugin_ = nullptr;
  abi::Backend* backend_ = nullptr;
};

constexpr size_t kTensors = 16;

/// Tensors on the GPU, registered.
class Tensors {
 public:
  Tensors(Agent& agent, const Gpu& gpu, size_t bytes) : agent_(agent), gpu_(gpu), bytes_(bytes) {
    for (size_t i = 0; i < kTensors; ++i) {
      void* memory = nullptr;
      must(gpu.malloc(&memory, bytes) == kCudaSuccess, "cudaMalloc");
      memories.push_back(memory);
      registered.push_back(agent.add(memory, bytes, abi::Memory::kVram));
    }
  }
  ~Tensors() {
    for (abi::Metadata* one : registered) agent_.remove(one);
    for (void* memory : memories) gpu_.free(memory);
  }
  Tensors(const Tensors&) = delete;

  void fill(const Bytes& bytes) const {
    for (void* memory : memories) gpu_.copy(memory, bytes.data(), bytes_, CudaCopyKind::kHostToDevice);
  }
  void compare(const Bytes& expected, size_t count) const {
    for (size_t i = 0; i < count; ++i) {
      Bytes got(bytes_);
      gpu_.copy(got.data(), memories[i], bytes_, CudaCopyKind::kDeviceToHost);
      must(got == expected, "comparing a tensor");
    }
  }

  std::vector<void*> memories;
  std::vector<abi::Metadata*> registered;

 private:
  Agent& agent_;
  const Gpu& gpu_;
  const size_t bytes_;
};

/// One line of the table: writes and reads blocks of this size from host memory and from the GPU, each direction both
/// ways, compares every byte, and prints the rates.
void check_size(Agent& agent, const Gpu& gpu, size_t bytes) {
  using abi::Memory;
  using abi::Operation;
  const Tensors tensors(agent, gpu, bytes);
  const std::vector<void*> one{tensors.memories[0]};
  const std::vector<abi::Metadata*> registered{tensors.registered[0]};
  const std::string key = fmt::format("gpu-check-{}", bytes);
  const Bytes poison(bytes, 0);

  const Bytes from_gpu = test::pattern(key, 1, bytes);
  tensors.fill(from_gpu);
  const double write = agent.run(Operation::kWrite, Memory::kVram, one, registered, bytes, key);
  tensors.fill(poison);
  const double read = agent.run(Operation::kRead, Memory::kVram, one, registered, bytes, key);
  tensors.compare(from_gpu, 1);
  const double all = agent.run(Operation::kRead, Memory::kVram, tensors.memories, tensors.registered, bytes, key);
  tensors.compare(from_gpu, kTensors);

  Bytes host(bytes);
  abi::Metadata* dram = agent.add(host.data(), bytes, Memory::kDram);
  const double host_read = agent.run(Operation::kRead, Memory::kDram, {host.data()}, {dram}, bytes, key);
  must(host == from_gpu, "comparing host memory");
  host = test::pattern(key, 2, bytes);
  const double host_write = agent.run(Operation::kWrite, Memory::kDram, {host.data()}, {dram}, bytes, key);
  agent.remove(dram);
  agent.run(Operation::kRead, Memory::kVram, tensors.memories, tensors.registered, bytes, key);
  tensors.compare(host, kTensors);

  const double mb = static_cast<double>(bytes) / 1e6;
  fmt::print("{:>10} {:>8.0f} {:>8.0f} {:>8.0f} {:>8.0f} {:>12.0f}\n", bytes, mb / host_write, mb / write,
             mb / host_read, mb / read, mb * kTensors / all);
}

int run(const char* plugin, const char* servers) {
  const auto runtime = load_cuda_runtime();
  if (!runtime.ok()) stop(runtime.error().text);
  const Gpu gpu(**runtime);
  Agent agent(plugin, servers);
  fmt::print(
      "MB/s      DRAM     VRAM     DRAM     VRAM      VRAM\n"
      "bytes      write    write     read     read    read to {}\n",
      kTensors);
  for (const size_t bytes : {1ul, 4096ul, 65536ul, 1ul << 20, (5ul << 20) + 17, 16ul << 20, 64ul << 20})
    check_size(agent, gpu, bytes);
  must(gpu.runtime.GetLastError() == kCudaSuccess, "looking for errors left behind");
  fmt::print("gpu-check: ok, every byte right\n");
  return 0;
}

}  // namespace
}  // namespace memkv::nixl

int main(int argc, char** argv) {
  if (argc != 3) memkv::nixl::stop("usage: memkv-nixl-gpu-check libplugin_MEMKV.so HOST:PORT[,...]");
  return memkv::nixl::run(argv[1], argv[2]);
}
