#include "client/remote/transport_choice.h"

#include <algorithm>
#include <utility>

namespace memkv::client {
namespace {

constexpr uint64_t kBackoffMin = 100'000'000, kBackoffMax = 5'000'000'000;

}  // namespace

bool TransportChoice::due(Transport transport, uint64_t now_ns) const {
  return allowed(transport) && !up(transport) && at(transport).due_ns <= now_ns;
}

Transport TransportChoice::now() const {
  for (const Transport transport : kOneSided) {
    if (is_only(transport) || up(transport)) return transport;
  }
  return Transport::kTcp;
}

bool TransportChoice::switched_from(Transport before) {
  if (now() == before) return false;
  switches_++;
  return true;
}

void TransportChoice::start_anew(uint64_t now_ns) {
  for (const Transport transport : kOneSided) {
    Known& known = at(transport);
    if (known.up || (known.ruled_out && !is_only(transport))) continue;
    known = {.ruled_out = known.ruled_out, .due_ns = now_ns, .why = std::move(known.why)};
  }
}

void TransportChoice::rule_out(Transport transport, std::string why) {
  at(transport) = {.ruled_out = true, .why = std::move(why)};
}

bool TransportChoice::set_up(Transport transport) {
  const Transport before = now();
  at(transport) = {.up = true};
  return switched_from(before);
}

bool TransportChoice::set_down(Transport transport, std::string why, uint64_t now_ns,
                               const std::function<uint64_t(uint64_t, uint64_t)>& jitter) {
  const Transport before = now();
  Known& known = at(transport);
  known.up = false;
  known.why = std::move(why);
  if (known.ruled_out && !is_only(transport)) return false;
  known.backoff_ns = std::clamp(known.backoff_ns * 2, kBackoffMin, kBackoffMax);
  known.due_ns = now_ns + jitter(known.backoff_ns / 2, known.backoff_ns);
  return switched_from(before);
}

std::string TransportChoice::describe() const {
  std::string text(to_string(now()));
  std::string reasons;
  for (const Transport transport : kOneSided) {
    if (up(transport)) break;
    if (!allowed(transport) || at(transport).why.empty()) continue;
    reasons += (reasons.empty() ? " (" : "; ") + std::string(to_string(transport)) + ": " + at(transport).why;
  }
  return text + (reasons.empty() ? "" : reasons + ")");
}

}  // namespace memkv::client
