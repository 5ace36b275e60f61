#pragma once
/// What is to be called when something has been done.

#include "base/assert.h"

namespace memkv::engine {

/// A member function of an object, to be called later. Owns nothing: the object lives until the call.
class Then {
 public:
  Then() = default;
  /// `Then::of<&Put::appended>(put)`
  template <auto kMember, typename T>
  static Then of(T& object) {
    Then then;
    then.call_ = [](void* target) { (static_cast<T*>(target)->*kMember)(); };
    then.object_ = &object;
    return then;
  }
  void operator()() const {
    MEMKV_ASSERT(call_ != nullptr, "nobody said what is to be called");
    call_(object_);
  }

 private:
  void (*call_)(void* target) = nullptr;
  void* object_ = nullptr;
};

}  // namespace memkv::engine
