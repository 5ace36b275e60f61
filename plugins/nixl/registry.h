#pragma once
/// What is registered: memory of the caller, and objects by key.

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "abi.h"
#include "memkv/client.h"
#include "memory.h"

namespace memkv::nixl {

/// The name of an object, shared by all its registrations. Lives as long as one of them, or a request, needs it.
struct Key {
  std::string text;  ///< as the store knows it: with prefix
  uint32_t id = 0;   ///< of this key alone while it lives
};

struct Registration final : abi::Metadata {
  std::shared_ptr<const Key> key;  ///< null: memory
  uint64_t bytes = 0;              ///< of the object; 0 = not said
  MemoryKind kind = MemoryKind::kHost;
  uint32_t device = 0;
  bool direct = false;          ///< VRAM that NICs reach: its bytes need no staging
  std::vector<Region> regions;  ///< with each driver's session; none of VRAM that is not direct
};

/// Thread: any.
class Registry {
 public:
  explicit Registry(std::string prefix) : prefix_(std::move(prefix)) {}

  /// The store's key of a descriptor: its meta info, or its device number in decimal.
  std::string key_of(const abi::BlobDesc& desc) const;
  /// Owned by the caller. nullptr: the key is longer than the store takes.
  std::unique_ptr<Registration> add_object(const abi::BlobDesc& desc);
  static std::unique_ptr<Registration> add_memory(const abi::BlobDesc& desc, MemoryKind kind);

 private:
  /// Kept by each key, which takes itself out at its end.
  struct Keys {
    std::mutex mutex;
    std::unordered_map<std::string, std::weak_ptr<const Key>> by_text;
    std::vector<uint32_t> free_ids;
    uint32_t next_id = 0;

    void forget(const Key* key);
  };

  std::shared_ptr<const Key> intern(std::string text);

  const std::string prefix_;
  const std::shared_ptr<Keys> keys_ = std::make_shared<Keys>();
};

}  // namespace memkv::nixl
