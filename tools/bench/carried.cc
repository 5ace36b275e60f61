#include "tools/bench/carried.h"

#include <fmt/core.h>

#include <algorithm>

namespace memkv::bench {
namespace {

constexpr uint64_t kShare = 100;  // a part of less than 1 in 100 is not named
constexpr std::chrono::seconds kAskFor{10};

uint64_t number(const Json& object, const char* name) { return object.value(name, uint64_t{0}); }

void subtract(uint64_t& from, uint64_t what) { from -= std::min(from, what); }  // the server may have started anew

}  // namespace

void Carried::add(const Carried& other) {
  for (const auto& [transport, bytes] : other.by_transport) by_transport[transport] += bytes;
  by_rail.resize(std::max(by_rail.size(), other.by_rail.size()));
  for (size_t i = 0; i < other.by_rail.size(); i++) {
    for (const auto& [device, rail] : other.by_rail[i]) {
      by_rail[i][device].bytes += rail.bytes;
      by_rail[i][device].emulated |= rail.emulated;
    }
  }
}

void Carried::take_off(const Carried& before) {
  for (const auto& [transport, bytes] : before.by_transport) subtract(by_transport[transport], bytes);
  for (size_t i = 0; i < std::min(by_rail.size(), before.by_rail.size()); i++) {
    for (const auto& [device, rail] : before.by_rail[i]) subtract(by_rail[i][device].bytes, rail.bytes);
  }
}

std::string Carried::transports() const {
  std::vector<std::pair<uint64_t, std::string>> parts;
  uint64_t total = 0;
  for (const auto& [transport, bytes] : by_transport) {
    parts.emplace_back(bytes, transport);
    total += bytes;
  }
  if (total == 0) return "?";
  std::sort(parts.rbegin(), parts.rend());
  std::string text;
  for (const auto& [bytes, transport] : parts) {
    if (bytes * kShare >= total) text += (text.empty() ? "" : "+") + transport;
  }
  return text;
}

uint32_t Carried::rails() const {
  if (transports().find("rdma") == std::string::npos) return 0;
  uint32_t most = 0;
  for (const auto& rails : by_rail) {
    uint64_t total = 0;
    for (const auto& [device, rail] : rails) total += rail.bytes;
    const auto used = [&](const auto& entry) { return entry.second.bytes > 0 && entry.second.bytes * kShare >= total; };
    most = std::max(most, static_cast<uint32_t>(std::count_if(rails.begin(), rails.end(), used)));
  }
  return most;
}

bool Carried::emulated() const {
  if (rails() == 0) return false;
  for (const auto& rails : by_rail) {
    for (const auto& [device, rail] : rails) {
      if (rail.emulated && rail.bytes > 0) return true;
    }
  }
  return false;
}

void Carried::tell(Json& run, const std::vector<std::string>& servers) const {
  run["transport"] = transports();
  run["rails"] = rails() > 0 ? Json(rails()) : Json(nullptr);
  run["bytes_by_transport"] = Json::object();
  for (const auto& [transport, bytes] : by_transport) run["bytes_by_transport"][transport] = bytes;
  run["bytes_by_rail"] = Json::object();
  for (size_t i = 0; i < by_rail.size(); i++) {
    const std::string server = by_rail.size() > 1 && i < servers.size() ? servers[i] + "/" : "";
    for (const auto& [device, rail] : by_rail[i]) run["bytes_by_rail"][server + device] = rail.bytes;
  }
}

std::string via_of(const Json& run) {
  const std::string transport = run["transport"];
  return run["rails"].is_null() ? transport : fmt::format("{}:{}", transport, run["rails"].get<uint32_t>());
}

void add_status(const std::string& status, Carried& carried) {
  auto& rails = carried.by_rail.emplace_back();
  const Json json = Json::parse(status, nullptr, false);
  if (!json.is_object()) return;
  if (json.contains("service")) {
    const Json by_transport = json["service"].value("payload_bytes_by_transport", Json::object());
    for (const auto& [transport, bytes] : by_transport.items())
      carried.by_transport[transport] += number(bytes, "in") + number(bytes, "out");
  }
  for (const Json& rail : json.value("rails", Json::array())) {
    rails[rail.value("device", "?")] = {number(rail, "bytes_in") + number(rail, "bytes_out"),
                                        rail.value("emulated", false)};
  }
}

Result<std::unique_ptr<CarriedMeter>, Message> CarriedMeter::connect(const ClientOptions& options) {
  ClientOptions ask = options;
  ask.transport = Transport::kTcp;
  ask.io_contexts = 1;
  auto client = Client::connect(ask);
  if (!client) return client.error();
  return std::unique_ptr<CarriedMeter>(new CarriedMeter(std::move(*client)));
}

Carried CarriedMeter::now() {
  Carried carried;
  for (size_t i = 0; i < client_.server_count(); i++) {
    const auto status = client_.server_status(i, kAskFor);
    add_status(status ? *status : "", carried);
  }
  return carried;
}

}  // namespace memkv::bench
