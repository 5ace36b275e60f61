#pragma once
/// What moves the bytes of a measured point: NIXL's agent with our plugin, or our own client.

#include <memory>
#include <vector>

#include "memkv/client.h"
#include "tools/bench/nixl_capi.h"

namespace memkv::bench {

/// One transfer between buffers and the beginnings of objects. It can run any number of times.
class Transfer {
 public:
  virtual ~Transfer() = default;
  /// Runs it to its end. False: it failed.
  virtual bool run() = 0;
};

/// Makes transfers, and must outlive them. Thread: one.
class Mover {
 public:
  virtual ~Mover() = default;
  virtual std::unique_ptr<Transfer> transfer(bool write, const std::vector<NixlAgent::Desc>& descs, size_t bytes) = 0;
};

Result<std::unique_ptr<Mover>, Message> make_nixl_mover(const NixlApi& api, const std::string& name,
                                                        const NixlAgent::Params& params, std::span<std::byte> memory,
                                                        const std::vector<NixlAgent::Object>& objects);

/// The same operations by one Session.
Result<std::unique_ptr<Mover>, Message> make_client_mover(const ClientOptions& client,
                                                          const std::vector<NixlAgent::Object>& objects);

}  // namespace memkv::bench
