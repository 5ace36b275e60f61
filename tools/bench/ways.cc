#include "tools/bench/ways.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/text.h"
#include "client/settings.h"
#include "transport/rdma/devices.h"

namespace memkv::bench {
namespace {

using transport::rdma::kRailsMax;

Result<std::vector<Transport>, Message> transports_of(const std::string& list) {
  std::vector<Transport> transports;
  for (const std::string& word : base::split_list(list)) {
    auto transport = client::parse_transport(word, "--transport");
    if (!transport) return transport.error();
    if (std::find(transports.begin(), transports.end(), *transport) == transports.end())
      transports.push_back(*transport);
  }
  return transports;
}

Result<std::vector<uint32_t>, Message> rails_of(const std::string& list) {
  std::vector<uint32_t> rails;
  for (const std::string& word : base::split_list(list)) {
    uint32_t number = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error != std::errc() || end != word.data() + word.size() || number < 1 || number > kRailsMax)
      return Message{Status::kInvalid, fmt::format("--rails {}: numbers from 1 to {}", word, kRailsMax)};
    if (std::find(rails.begin(), rails.end(), number) == rails.end()) rails.push_back(number);
  }
  return rails;
}

bool over_rdma(const Way& way) { return way.transport == Transport::kRdma; }

/// The devices that can be used, in order, and why others cannot.
struct Usable {
  std::vector<std::string> names;
  std::vector<bool> emulated;
  std::string why_not;
};

Result<Usable, Message> usable_devices(const ClientOptions& client) {
  auto settings = client::resolve_settings(client);
  if (!settings) return settings.error();
  auto verbs = transport::rdma::load_verbs();
  if (!verbs) return Message{Status::kInvalid, "transport rdma: " + verbs.error().text};
  const std::vector<std::string>& named = settings->rdma_devices;
  Usable usable;
  for (const std::string& name : named.empty() ? transport::rdma::list_devices(**verbs) : named) {
    auto device = transport::rdma::Device::open(**verbs, name);
    if (!device) {
      usable.why_not += "; " + device.error().text;
      continue;
    }
    usable.names.push_back(name);
    usable.emulated.push_back((*device)->emulated());
  }
  return usable;
}

}  // namespace

std::string Way::word() const {
  const std::string word(to_string(transport));
  return rails == 0 ? word : fmt::format("{}:{}", word, rails);
}

std::string Way::name() const {
  const std::string word(to_string(transport));
  if (rails == 0) return word;
  if (rails == 1) return word + ", single rail";
  if (rails == 2) return word + ", dual rail";
  return fmt::format("{}, {} rails", word, rails);
}

void Way::choose_in(ClientOptions& client) const {
  client.transport = transport;
  client.rdma_devices = devices;
}

Result<std::vector<Way>, Message> ways_of(const TargetOptions& options, const std::vector<Transport>& otherwise) {
  auto transports = transports_of(options.transport);
  if (!transports) return transports.error();
  auto rails = rails_of(options.rails);
  if (!rails) return rails.error();
  std::vector<Way> ways;
  for (const Transport transport : transports->empty() ? otherwise : *transports) {
    const bool by_rails = transport == Transport::kRdma && !rails->empty();
    if (!by_rails) ways.push_back({transport, 0, {}, false});
    for (size_t i = 0; by_rails && i < rails->size(); i++) ways.push_back({transport, (*rails)[i], {}, false});
  }
  if (!rails->empty() && std::none_of(ways.begin(), ways.end(), over_rdma))
    return Message{Status::kInvalid,
                   fmt::format("--rails {}: only rdma has rails, and it is not in --transport{}", options.rails,
                               options.transport.empty() ? "" : " " + options.transport)};
  return ways;
}

Result<void, Message> find_devices(std::vector<Way>& ways, const ClientOptions& client) {
  if (std::none_of(ways.begin(), ways.end(), over_rdma)) return {};
  auto usable = usable_devices(client);
  if (!usable) return usable.error();
  const size_t there = usable->names.size();
  if (there == 0)
    return Message{Status::kInvalid, usable->why_not.empty()
                                         ? "transport rdma: this host has no RDMA device"
                                         : "transport rdma: no RDMA device can be used" + usable->why_not};
  for (Way& way : ways) {
    if (!over_rdma(way)) continue;
    if (there < way.rails)
      return Message{Status::kInvalid,
                     fmt::format("--rails {}: only {} RDMA device{} can be used: {}{}", way.rails, there,
                                 there == 1 ? "" : "s", fmt::join(usable->names, ", "), usable->why_not)};
    const size_t used = way.rails == 0 ? there : way.rails;
    way.emulated = std::any_of(usable->emulated.begin(), usable->emulated.begin() + static_cast<ptrdiff_t>(used),
                               [](bool emulated) { return emulated; });
    if (way.rails > 0) way.devices.assign(usable->names.begin(), usable->names.begin() + way.rails);
  }
  return {};
}

}  // namespace memkv::bench
