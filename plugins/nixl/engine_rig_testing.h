#pragma once
/// Calls the backend by its vtable in the order in which NIXL's agent does.

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "abi.h"
#include "tests/support/server_process.h"

extern "C" const memkv::nixl::abi::Plugin* nixl_plugin_init();
extern "C" void nixl_plugin_fini();

namespace memkv::nixl::test {

using abi::Memory;
using abi::Operation;
using abi::Status;

/// One element of a transfer in a test's words.
struct Element {
  void* memory;
  size_t length;
  std::string key;
  uint64_t offset = 0;
};

/// An agent with this one backend. Thread: any for transfers and queries.
class Agent {
 public:
  explicit Agent(abi::Params params, const std::string& type = "MEMKV", const std::string& name = "tester")
      : name_(name), plugin_(nixl_plugin_init()) {
    abi::InitParams init;
    init.agent = name;
    init.type = type;
    init.params = &params;
    backend_ = plugin_->create(&init);
  }
  ~Agent() { close(); }
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  void close() {
    for (auto& [key, metadata] : objects_) remove(metadata);
    if (memory_) remove(memory_);
    if (backend_) plugin_->destroy(backend_);
    objects_.clear();
    memory_ = nullptr;
    backend_ = nullptr;
  }

  bool made() const { return backend_ != nullptr; }
  abi::Backend& backend() { return *backend_; }

  abi::Metadata* add(const abi::BlobDesc& desc, Memory memory, Status expected = Status::kSuccess) {
    auto* out = reinterpret_cast<abi::Metadata*>(0x5a5a);  // as NIXL leaves it
    EXPECT_EQ(backend_->registerMem(desc, memory, out), expected);
    if (expected != Status::kSuccess) return nullptr;
    abi::Metadata* loaded = nullptr;
    EXPECT_EQ(backend_->loadLocalMD(out, loaded), Status::kSuccess);
    return loaded;
  }
  Status remove(abi::Metadata* metadata) {
    backend_->unloadMD(metadata);
    return backend_->deregisterMem(metadata);
  }
  /// An object, registered once by each agent. `bytes` 0 = size not said.
  abi::Metadata* object(const std::string& key, size_t bytes = 0) {
    abi::Metadata*& known = objects_[key];
    if (!known) known = add(object_desc(key, bytes), Memory::kObject);
    return known;
  }
  static abi::BlobDesc object_desc(const std::string& key, size_t bytes) {
    abi::BlobDesc desc;
    desc.length = bytes == 0 ? SIZE_MAX : bytes;
    desc.meta_info = key;
    return desc;
  }
  /// All of the caller's memory, as one registration.
  abi::Metadata* memory() {
    if (!memory_) memory_ = add({{.address = 4096, .length = SIZE_MAX >> 1, .device = 0}, ""}, Memory::kDram);
    return memory_;
  }

  /// A prepared transfer and the lists that NIXL keeps with it.
  struct Transfer {
    Operation operation{};
    abi::MetaList local, remote;
    abi::RequestHandle* handle = nullptr;
    Status status = Status::kNotPosted;
    bool release_refused = false;
  };

  Transfer prepare(Operation operation, const std::vector<Element>& elements, Status expected = Status::kSuccess) {
    Transfer transfer = lists(operation, elements);
    prepare(transfer, expected);
    return transfer;
  }
  Transfer lists(Operation operation, const std::vector<Element>& elements) {
    Transfer transfer;
    transfer.operation = operation;
    transfer.local.memory = Memory::kDram;
    transfer.remote.memory = Memory::kObject;
    for (const Element& one : elements) {
      const auto address = reinterpret_cast<uintptr_t>(one.memory);
      transfer.local.descs.push_back({{address, one.length, 0}, memory()});
      transfer.remote.descs.push_back({{one.offset, one.length, 0}, object(one.key)});
    }
    return transfer;
  }
  void prepare(Transfer& transfer, Status expected) {
    EXPECT_EQ(backend_->prepXfer(transfer.operation, transfer.local, transfer.remote, name_, transfer.handle, &args_),
              expected);
  }
  Status post(Transfer& transfer) {
    return transfer.status =
               backend_->postXfer(transfer.operation, transfer.local, transfer.remote, name_, transfer.handle, &args_);
  }
  Status check(Transfer& transfer) {
    if (transfer.status == Status::kInProgress) transfer.status = backend_->checkXfer(transfer.handle);
    return transfer.status;
  }
  /// Polls as NIXL's users do. A transfer that hangs fails the test.
  Status finish(Transfer& transfer) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (check(transfer) == Status::kInProgress) {
      if (std::chrono::steady_clock::now() > end) {
        ADD_FAILURE() << "a transfer hangs";
        break;
      }
      std::this_thread::yield();
    }
    return transfer.status;
  }
  /// As NIXL does: one that is refused is kept, but the second time the handle is forgotten whatever is said.
  Status release(Transfer& transfer) {
    const Status status = backend_->releaseReqH(transfer.handle);
    const bool first = !std::exchange(transfer.release_refused, true);
    if (status == Status::kSuccess || !first) transfer.handle = nullptr;
    return status;
  }
  Status release_at_last(Transfer& transfer) {
    const Status status = release(transfer);
    return status == Status::kSuccess ? status : release(transfer);
  }
  Status run(Operation operation, const std::vector<Element>& elements) {
    Transfer transfer = prepare(operation, elements);
    if (!transfer.handle) return Status::kInvalidParam;
    post(transfer);
    const Status status = finish(transfer);
    EXPECT_EQ(release(transfer), Status::kSuccess);
    return status;
  }
  Status write(const std::vector<Element>& elements) { return run(Operation::kWrite, elements); }
  Status read(const std::vector<Element>& elements) { return run(Operation::kRead, elements); }

  std::vector<bool> query(const std::vector<std::string>& keys) {
    abi::BlobList list;
    list.memory = Memory::kObject;
    for (const std::string& key : keys) list.descs.push_back(object_desc(key, 1));
    abi::QueryResponse response;
    EXPECT_EQ(backend_->queryMem(list, response), Status::kSuccess);
    EXPECT_EQ(response.size(), keys.size());
    std::vector<bool> there;
    for (const auto& one : response) there.push_back(one.has_value());
    return there;
  }

 private:
  const std::string name_;
  const abi::Plugin* plugin_;
  abi::Backend* backend_ = nullptr;
  abi::OptionalArgs args_;
  abi::Metadata* memory_ = nullptr;
  std::map<std::string, abi::Metadata*> objects_;
};

/// Bytes that say where they belong.
inline std::vector<char> pattern(size_t bytes, uint32_t seed) {
  std::vector<char> out(bytes);
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (char& byte : out) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<char>(state >> 56);
  }
  return out;
}

/// A server in RAM mode and parameters for an agent.
class EngineTest : public testing::Test {
 protected:
  EngineTest() : server_(memkv::test::start_memory_server(dir_, "256MiB")) {}
  abi::Params params(abi::Params more = {}) const {
    more.emplace("servers", server_->address());
    return more;
  }

  memkv::test::TempDir dir_;
  std::unique_ptr<memkv::test::ServerProcess> server_;
};

}  // namespace memkv::nixl::test
