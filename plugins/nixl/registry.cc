#include "registry.h"

#include <algorithm>
#include <new>

#include "base/assert.h"
#include "memkv/types.h"

namespace memkv::nixl {

std::string Registry::key_of(const abi::BlobDesc& desc) const {
  return prefix_ + (desc.meta_info.empty() ? std::to_string(desc.device) : desc.meta_info);
}

Registry::Owned Registry::add_object(const abi::BlobDesc& desc) {
  Owned registration = take();
  const bool from_start = desc.address == 0 && desc.length != SIZE_MAX;
  registration->bytes = from_start ? desc.length : 0;
  try {
    std::string text = key_of(desc);
    if (text.size() > kKeyBytesMax) return {nullptr, Remove{this}};
    registration->key = intern(std::move(text));
  } catch (const std::bad_alloc&) {
    registration->unusable = true;
  }
  return registration;
}

Registry::Owned Registry::add_memory(const abi::BlobDesc& desc, MemoryKind kind) {
  Owned registration = take();
  registration->bytes = desc.length;
  registration->kind = kind;
  registration->device = kind == MemoryKind::kCuda ? static_cast<uint32_t>(desc.device) : 0;
  return registration;
}

void Registry::remove(Registration& registration) {
  MEMKV_ASSERT(registration.regions.empty(), "its regions end before it does");
  registration.key.reset();
  registration.bytes = 0;
  registration.kind = MemoryKind::kHost;
  registration.device = 0;
  registration.direct = registration.unusable = false;
  table_.give_back(registration);
  removed_.fetch_add(1, std::memory_order_release);
}

/// All memory is taken before the key has an id: what fails for lack of it leaves nothing behind.
std::shared_ptr<const Key> Registry::intern(std::string text) {
  auto key = std::make_unique<Key>();
  key->text = std::move(text);
  const std::shared_ptr<Key> fresh(key.release(), [keys = keys_](const Key* gone) { keys->forget(gone); });
  const std::lock_guard lock(keys_->mutex);
  std::weak_ptr<const Key>& known = keys_->by_text[fresh->text];
  if (auto same = known.lock()) return same;
  fresh->id = keys_->take_id();
  known = fresh;
  return fresh;
}

/// There is always room to take it back.
uint32_t Registry::Keys::take_id() {
  if (free_ids.empty()) {
    if (free_ids.capacity() <= next_id) free_ids.reserve(std::max(64u, 2 * next_id));
    return next_id++;
  }
  const uint32_t id = free_ids.back();
  free_ids.pop_back();
  return id;
}

/// The last owner of a key is gone; another registration may have taken its text anew meanwhile.
void Registry::Keys::forget(const Key* key) {
  const std::unique_ptr<const Key> owned(key);
  if (key->id == Key::kNoId) return;
  const std::lock_guard lock(mutex);
  free_ids.push_back(key->id);
  const auto found = by_text.find(key->text);
  if (found != by_text.end() && found->second.expired()) by_text.erase(found);
}

}  // namespace memkv::nixl
