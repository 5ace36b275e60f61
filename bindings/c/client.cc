/// Settings, servers, memory and counters.

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include "objects.h"
#include "sized.h"

using memkv::Client;
using memkv::ClientOptions;
using memkv::Deadline;
using memkv::Message;
using memkv::Result;
using memkv::Status;
using namespace memkv::c;

namespace {

std::string text_of(const char* text) { return text ? text : ""; }

Result<std::vector<std::string>, Message> list_of(const char* name, const char* const* texts, size_t count) {
  std::vector<std::string> list;
  if (count > 0 && texts == nullptr) return invalid(std::string("memkv_options: ") + name + " is NULL");
  for (size_t i = 0; i < count; i++) {
    if (texts[i] == nullptr) {
      return invalid(std::string("memkv_options: ") + name + "[" + std::to_string(i) + "] is NULL");
    }
    list.push_back(texts[i]);
  }
  return list;
}

/// Turns the C struct into the client's options. Numbers that no enum of this header has, and reserved fields that are
/// not zero, are refused: they come from a newer program, which would not get what it asked for.
Result<ClientOptions, Message> options_of(const memkv_options& from) {
  ClientOptions to;
  auto servers = list_of("servers", from.servers, from.server_count);
  if (!servers) return servers.error();
  auto devices = list_of("rdma_devices", from.rdma_devices, from.rdma_device_count);
  if (!devices) return devices.error();
  if (from.transport > MEMKV_TRANSPORT_RDMA) return invalid("memkv_options: transport is no MEMKV_TRANSPORT_*");
  if (from.put_checksum > MEMKV_PUT_CHECKSUM_SERVER) {
    return invalid("memkv_options: put_checksum is no MEMKV_PUT_CHECKSUM_*");
  }
  if (from.skip_verify > 1) return invalid("memkv_options: skip_verify is neither 0 nor 1");
  if (from.reserved != 0) return invalid("memkv_options: reserved is not 0");
  to.servers = std::move(*servers);
  to.rdma_devices = std::move(*devices);
  to.namespace_key = text_of(from.namespace_key);
  to.shm_dir = text_of(from.shm_dir);
  to.congestion = text_of(from.congestion);
  to.client_name = text_of(from.client_name);
  to.config_file = text_of(from.config_file);
  to.log_level = text_of(from.log_level);
  to.get_timeout = Deadline(from.get_timeout_ns);
  to.put_timeout = Deadline(from.put_timeout_ns);
  to.transport = static_cast<memkv::Transport>(from.transport);
  to.io_contexts = from.io_contexts;
  to.connections_per_worker = from.connections_per_worker;
  to.put_checksum = static_cast<memkv::PutChecksum>(from.put_checksum);
  to.verify = from.skip_verify == 0;
  return to;
}

/// Runs `body` inside the client. `place`, where its result goes, must not be null.
template <typename Body>
int32_t inside(memkv_client* client, const void* place, Body body) {
  return guarded([&] {
    const Entered entered(client);
    if (!entered.ok()) return entered.why();
    if (place == nullptr) return failed(Status::kInvalid, "the place for the result is NULL");
    return static_cast<int32_t>(body());
  });
}

/// Makes a text that memkv_free() releases.
int32_t give(const std::string& from, char** to) {
  auto* copy = static_cast<char*>(std::malloc(from.size() + 1));
  if (copy == nullptr) throw std::bad_alloc();
  std::memcpy(copy, from.c_str(), from.size() + 1);
  *to = copy;
  return MEMKV_OK;
}

/// The memory behind a listing's columns.
struct OwnedListing {
  memkv_listing columns{};
  std::vector<memkv::ListedBlock> blocks;
  std::vector<const void*> keys;
  std::vector<size_t> key_sizes;
  std::vector<uint64_t> block_bytes, generations;
};
static_assert(offsetof(OwnedListing, columns) == 0, "the handle is the listing's own address");

std::unique_ptr<OwnedListing> listing_of(std::vector<memkv::ListedBlock> blocks) {
  auto listing = std::make_unique<OwnedListing>();
  listing->blocks = std::move(blocks);
  for (const memkv::ListedBlock& block : listing->blocks) {
    listing->keys.push_back(block.key.data());
    listing->key_sizes.push_back(block.key.size());
    listing->block_bytes.push_back(block.block_bytes);
    listing->generations.push_back(block.generation);
  }
  listing->columns = {.struct_size = sizeof(memkv_listing),
                      .count = listing->blocks.size(),
                      .keys = listing->keys.data(),
                      .key_sizes = listing->key_sizes.data(),
                      .block_bytes = listing->block_bytes.data(),
                      .generations = listing->generations.data()};
  return listing;
}

memkv_counters counters_of(const memkv::ClientCounters& from) {
  return {.struct_size = 0,
          .ops = from.ops,
          .hits = from.hits,
          .misses = from.misses,
          .failures = from.failures,
          .unknown = from.unknown,
          .retries = from.retries,
          .bytes_read = from.bytes_read,
          .bytes_written = from.bytes_written,
          .corrupt = from.corrupt,
          .connects = from.connects,
          .breaker_opened = from.breaker_opened,
          .staged_bytes = from.staged_bytes,
          .transport_switches = from.transport_switches,
          .fenced = from.fenced};
}

memkv_rail rail_of(const memkv::RailCounters& from) {
  memkv_rail to{.struct_size = 0,
                .device = {},
                .working = from.working,
                .links = from.links,
                .links_total = from.links_total,
                .ops = from.ops,
                .bytes_in = from.bytes_in,
                .bytes_out = from.bytes_out,
                .failures = from.failures,
                .retry_errors = from.retry_errors,
                .rnr_errors = from.rnr_errors,
                .access_errors = from.access_errors,
                .switches = from.switches};
  from.device.copy(to.device, sizeof to.device - 1);
  return to;
}

}  // namespace

extern "C" {

int32_t memkv_connect(const memkv_options* options, memkv_client** client) {
  return guarded([&] {
    if (client == nullptr) return failed(Status::kInvalid, "memkv_connect needs a place for the client");
    *client = nullptr;
    memkv_options read{};
    if (options) {
      constexpr size_t kFirstBytes = offsetof(memkv_options, log_level);
      if (auto checked = read_sized("memkv_options", options, kFirstBytes, read); !checked) {
        return failed(checked.error());
      }
    }
    auto settings = options_of(read);
    if (!settings) return failed(settings.error());
    auto connected = Client::connect(std::move(*settings));
    if (!connected) return failed(connected.error());
    *client = new memkv_client(std::move(*connected));
    return int32_t{MEMKV_OK};
  });
}

void memkv_close(memkv_client* client) {
  if (client == nullptr) return;
  if (client->client.forked()) return client->close_descriptors();
  client->end_calls();
  delete client;
}

size_t memkv_server_count(const memkv_client* client) { return client ? client->client.server_count() : 0; }

size_t memkv_server_of(const memkv_client* client, const void* key, size_t key_size) {
  if (client == nullptr || key == nullptr) return 0;
  return client->client.server_of({static_cast<const char*>(key), key_size});
}

int32_t memkv_server_name(memkv_client* client, size_t server, char** text) {
  return inside(client, text, [&] {
    if (server >= client->client.server_count()) return failed(Status::kInvalid, "no server of that number");
    return give(client->client.server_name(server), text);
  });
}

int32_t memkv_server_status(memkv_client* client, size_t server, int64_t timeout_ns, char** json) {
  return inside(client, json, [&] {
    const auto status = client->client.server_status(server, Deadline(timeout_ns));
    return status ? give(*status, json) : failed(status.error());
  });
}

int32_t memkv_describe(memkv_client* client, char** text) {
  return inside(client, text, [&] { return give(client->client.describe(), text); });
}

void memkv_free(char* text) { std::free(text); }

int32_t memkv_flush(memkv_client* client, int64_t timeout_ns) {
  return inside(client, client, [&] { return told(client->client.flush(Deadline(timeout_ns)).status); });
}

int32_t memkv_list(memkv_client* client, size_t server, uint64_t limit, int64_t timeout_ns, memkv_listing** listing) {
  return inside(client, listing, [&] {
    *listing = nullptr;
    auto blocks = client->client.list(server, limit, Deadline(timeout_ns));
    if (!blocks) return failed(blocks.error());
    *listing = &listing_of(std::move(*blocks)).release()->columns;
    return int32_t{MEMKV_OK};
  });
}

void memkv_listing_free(memkv_listing* listing) { delete reinterpret_cast<OwnedListing*>(listing); }

int32_t memkv_client_counters(memkv_client* client, memkv_counters* counters) {
  return inside(client, counters, [&] {
    const auto now = counters_of(client->client.counters());
    const auto written = write_sized("memkv_counters", counters, sizeof(memkv_counters), now);
    return written ? int32_t{MEMKV_OK} : failed(written.error());
  });
}

int32_t memkv_client_rail(memkv_client* client, size_t rail, memkv_rail* counters) {
  return inside(client, counters, [&] {
    const auto rails = client->client.rail_counters();
    if (rail >= rails.size()) return int32_t{MEMKV_MISS};
    const auto written = write_sized("memkv_rail", counters, sizeof(memkv_rail), rail_of(rails[rail]));
    return written ? int32_t{MEMKV_OK} : failed(written.error());
  });
}

int32_t memkv_register(memkv_client* client, void* data, size_t size, uint32_t kind, int32_t device,
                       memkv_region** region) {
  return inside(client, region, [&] {
    *region = nullptr;
    if (kind > MEMKV_MEMORY_CUDA) return failed(Status::kInvalid, "memkv_register: kind is no MEMKV_MEMORY_*");
    auto registered = std::make_unique<memkv_region>();
    auto made = client->client.register_memory(data, size, static_cast<memkv::MemoryKind>(kind), device);
    if (!made) return failed(made.error());
    registered->region = std::move(*made);
    *region = registered.release();
    return int32_t{MEMKV_OK};
  });
}

void memkv_unregister(memkv_region* region) { delete region; }
}
