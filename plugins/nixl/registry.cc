#include "registry.h"

#include "memkv/types.h"

namespace memkv::nixl {

std::string Registry::key_of(const abi::BlobDesc& desc) const {
  return prefix_ + (desc.meta_info.empty() ? std::to_string(desc.device) : desc.meta_info);
}

std::unique_ptr<Registration> Registry::add_object(const abi::BlobDesc& desc) {
  std::string text = key_of(desc);
  if (text.size() > kKeyBytesMax) return nullptr;
  auto registration = std::make_unique<Registration>();
  registration->key = intern(std::move(text));
  const bool from_start = desc.address == 0 && desc.length != SIZE_MAX;
  registration->bytes = from_start ? desc.length : 0;
  return registration;
}

std::unique_ptr<Registration> Registry::add_memory(const abi::BlobDesc& desc, MemoryKind kind) {
  auto registration = std::make_unique<Registration>();
  registration->bytes = desc.length;
  registration->kind = kind;
  registration->device = kind == MemoryKind::kCuda ? static_cast<uint32_t>(desc.device) : 0;
  return registration;
}

std::shared_ptr<const Key> Registry::intern(std::string text) {
  const std::lock_guard lock(mutex_);
  std::weak_ptr<const Key>& known = keys_[text];
  if (auto key = known.lock()) return key;
  auto key = std::make_unique<Key>();
  key->text = std::move(text);
  key->id = free_ids_.empty() ? next_id_++ : free_ids_.back();
  if (!free_ids_.empty()) free_ids_.pop_back();
  std::shared_ptr<const Key> shared(key.release(), [this](const Key* gone) { forget(gone); });
  known = shared;
  return shared;
}

/// The last owner of a key is gone; another registration may have taken its text anew meanwhile.
void Registry::forget(const Key* key) {
  const std::unique_ptr<const Key> owned(key);
  const std::lock_guard lock(mutex_);
  free_ids_.push_back(key->id);
  const auto found = keys_.find(key->text);
  if (found != keys_.end() && found->second.expired()) keys_.erase(found);
}

}  // namespace memkv::nixl
