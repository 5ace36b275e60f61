#pragma once
/// What is registered: memory of the caller, and objects by key.

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "abi.h"
#include "handle_table.h"
#include "memkv/client.h"
#include "memory.h"

namespace memkv::nixl {

/// The name of an object, shared by all its registrations. Lives as long as one of them, or a request, needs it.
struct Key {
  static constexpr uint32_t kNoId = UINT32_MAX;

  std::string text;     ///< as the store knows it: with prefix
  uint32_t id = kNoId;  ///< of this key alone while it lives
};

struct Registration final : abi::Metadata {
  std::shared_ptr<const Key> key;  ///< null: memory
  uint64_t bytes = 0;              ///< of the object; 0 = not said
  MemoryKind kind = MemoryKind::kHost;
  uint32_t device = 0;
  bool direct = false;          ///< VRAM that NICs reach: its bytes need no staging
  bool unusable = false;        ///< there was no memory to register it: transfers with it fail
  std::vector<Region> regions;  ///< with each driver's session; none of VRAM that is not direct

  bool is_object() const { return key != nullptr || unusable; }
};

/// Knows every live registration: what NIXL hands back is looked up before it is trusted.
/// Thread: any.
class Registry {
 public:
  explicit Registry(std::string prefix) : prefix_(std::move(prefix)) {}

  struct Remove {
    Registry* registry = nullptr;
    void operator()(Registration* registration) const { registry->remove(*registration); }
  };
  using Owned = std::unique_ptr<Registration, Remove>;

  /// The store's key of a descriptor: its meta info, or its device number in decimal.
  std::string key_of(const abi::BlobDesc& desc) const;
  /// nullptr: the key is longer than the store takes. Where memory is short, the registration is unusable.
  Owned add_object(const abi::BlobDesc& desc);
  Owned add_memory(const abi::BlobDesc& desc, MemoryKind kind);
  /// Null: it is not a live registration of this backend.
  Registration* find(const abi::Metadata* metadata) const { return table_.find(metadata); }
  /// Its regions must have been released.
  void remove(Registration& registration);
  /// Registrations removed so far: who found some alive need not look again while it stays the same.
  uint64_t removed() const { return removed_.load(std::memory_order_acquire); }

 private:
  /// Kept by each key, which takes itself out at its end.
  struct Keys {
    std::mutex mutex;
    std::unordered_map<std::string, std::weak_ptr<const Key>> by_text;
    std::vector<uint32_t> free_ids;
    uint32_t next_id = 0;

    uint32_t take_id();
    void forget(const Key* key);
  };

  std::shared_ptr<const Key> intern(std::string text);
  Owned take() { return {&table_.take(), Remove{this}}; }

  const std::string prefix_;
  const std::shared_ptr<Keys> keys_ = std::make_shared<Keys>();
  HandleTable<Registration> table_;
  std::atomic<uint64_t> removed_{0};
};

}  // namespace memkv::nixl
