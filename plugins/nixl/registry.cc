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
  const std::lock_guard lock(keys_->mutex);
  std::weak_ptr<const Key>& known = keys_->by_text[text];
  if (auto key = known.lock()) return key;
  auto key = std::make_unique<Key>();
  key->text = std::move(text);
  key->id = keys_->free_ids.empty() ? keys_->next_id++ : keys_->free_ids.back();
  if (!keys_->free_ids.empty()) keys_->free_ids.pop_back();
  std::shared_ptr<const Key> shared(key.release(), [keys = keys_](const Key* gone) { keys->forget(gone); });
  known = shared;
  return shared;
}

/// The last owner of a key is gone; another registration may have taken its text anew meanwhile.
void Registry::Keys::forget(const Key* key) {
  const std::unique_ptr<const Key> owned(key);
  const std::lock_guard lock(mutex);
  free_ids.push_back(key->id);
  const auto found = by_text.find(key->text);
  if (found != by_text.end() && found->second.expired()) by_text.erase(found);
}

}  // namespace memkv::nixl
