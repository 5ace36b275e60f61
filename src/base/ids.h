#pragma once
/// Strong types for ids and offsets that could be swapped by mistake.

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace memkv::base {

/// A number with a meaning: `using ShardId = StrongId<struct ShardIdTag, uint16_t>`. No arithmetic, explicit both ways.
template <typename Tag, typename Rep = uint32_t>
class StrongId {
 public:
  using rep = Rep;
  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep value) : value_(value) {}
  constexpr Rep value() const { return value_; }
  friend constexpr bool operator==(StrongId, StrongId) = default;
  friend constexpr auto operator<=>(StrongId, StrongId) = default;

 private:
  Rep value_ = 0;
};

}  // namespace memkv::base

template <typename Tag, typename Rep>
struct std::hash<memkv::base::StrongId<Tag, Rep>> {
  size_t operator()(memkv::base::StrongId<Tag, Rep> id) const noexcept { return std::hash<Rep>{}(id.value()); }
};
