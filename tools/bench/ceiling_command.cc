/// memkv-bench ceiling: what this machine can do at most.

#include <fmt/core.h>

#include "base/units.h"
#include "tools/bench/bare_ring.h"
#include "tools/bench/ceiling.h"
#include "tools/bench/options.h"
#include "tools/bench/report.h"
#include "tools/bench/target.h"

namespace memkv::bench {
namespace {

constexpr uint64_t kDriveBytes = 1ull << 30;
constexpr uint64_t kWindow = 128 << 20;

class Ceiling {
 public:
  explicit Ceiling(const CeilingOptions& options) : options_(options) {}

  /// Measures for each block size what this machine can do without a store: memcpy, checksums, bare TCP, a bare ring
  /// and the drive. MemKV's numbers are compared with these.
  Result<void, Message> run(const std::vector<uint64_t>& sizes) {
    auto dir = WorkDir::make(options_.dir);
    if (!dir) return dir.error();
    const std::string drive = (*dir)->path() + "/drive";
    if (auto made = make_drive_file(drive, kDriveBytes); !made) return made.error();
    auto bare = start_bare_servers(options_.congestion);
    if (!bare) return bare.error();
    auto rings = RingPeers::start();
    if (!rings) return rings.error();
    report["machine"] = describe_machine();
    report["congestion_control"] = options_.congestion;
    report["ceilings"] = Json::array();
    fmt::print("{:>8} {:<34} {:>10} {:>12}  {}\n", "block", "what", "GiB/s", "ops/s", "best of");
    for (const uint64_t size : sizes) {
      add(size, "memcpy", memcpy_gib_per_s(size));
      add(size, "memcpy, 1 block to 15", fan_out_gib_per_s(size));
      add(size, "checksums (XXH3, 64 KiB grains)", hash_gib_per_s(size));
      for (const bool lend : {false, true}) {
        const Peer& sender = lend ? bare->lending : bare->plain;
        const std::string copies = lend ? ", one copy" : "";
        const PeerTest get = {.peer = &sender, .block_bytes = size};
        const PeerTest put = {.peer = &bare->plain, .put = true, .lend = lend, .block_bytes = size};
        if (auto r = tcp("TCP get" + copies, get); !r) return r;
        if (auto r = tcp("TCP get" + copies + ", client hashes", hashing(get)); !r) return r;
        if (auto r = tcp("TCP put" + copies, put); !r) return r;
        if (auto r = tcp("TCP put" + copies + ", server hashes", at(bare->hashing, put)); !r) return r;
        if (auto r = tcp("TCP put" + copies + ", both hash", hashing(at(bare->hashing, put))); !r) return r;
      }
      for (const bool put : {false, true}) {
        for (const bool hash : {false, true}) {
          auto best = rings->best({.put = put, .hash = hash, .block_bytes = size, .window_bytes = kWindow});
          if (!best) return best.error();
          const std::string what = fmt::format("shared-memory ring {}{}", put ? "put" : "get",
                                               !hash ? ""
                                               : put ? ", both hash"
                                                     : ", client hashes");
          add(size, what, best->gib_per_s, &*best);
        }
      }
      for (const bool write : {false, true}) {
        auto rate = drive_gib_per_s(drive, kDriveBytes, size, write, 32, 0.5);
        if (!rate) return rate.error();
        add(size, write ? "drive write, depth 32" : "drive read, depth 32", *rate);
      }
      auto pipeline = start_bare(
          {.drive = drive, .drive_bytes = kDriveBytes, .block_bytes = size, .congestion = options_.congestion});
      if (!pipeline) return pipeline.error();
      if (auto r = tcp("drive to TCP", {.peer = &*pipeline, .block_bytes = size}); !r) return r;
      if (auto r = tcp("TCP to drive", {.peer = &*pipeline, .put = true, .block_bytes = size}); !r) return r;
    }
    return {};
  }

  Json report;

 private:
  void add(uint64_t size, const std::string& what, double gib_per_s, const Best* best = nullptr) {
    const double ops = gib_per_s * (1 << 30) / static_cast<double>(size);
    const std::string how = best ? fmt::format("{} connection{}, depth {}", best->connections,
                                               best->connections == 1 ? "" : "s", best->depth)
                                 : "";
    fmt::print("{:>8} {:<34} {:>10.3f} {:>12.0f}  {}\n", base::format_bytes(size), what, gib_per_s, ops, how);
    fflush(stdout);
    Json line = {{"block_bytes", size}, {"what", what}, {"gib_per_s", gib_per_s}, {"ops_per_s", ops}};
    if (best) line["connections"] = best->connections, line["depth"] = best->depth;
    if (best && best->cpu_s_per_gib > 0) line["cpu_s_per_gib"] = best->cpu_s_per_gib;
    report["ceilings"].push_back(line);
  }

  static PeerTest hashing(PeerTest test) {
    test.hash = true;
    return test;
  }
  static PeerTest at(const Peer& peer, PeerTest test) {
    test.peer = &peer;
    return test;
  }

  Result<void, Message> tcp(const std::string& what, PeerTest test) {
    test.keys = kDriveBytes / test.block_bytes;
    test.window_bytes = kWindow;
    test.congestion = options_.congestion;
    auto best = best_of_peer(test);
    if (!best) return best.error();
    add(test.block_bytes, what, best->gib_per_s, &*best);
    return {};
  }

  const CeilingOptions& options_;
};

}  // namespace

int run_ceiling(const CeilingOptions& options) {
  auto sizes = sizes_of(options.sizes);
  if (!sizes) return complain(sizes.error());
  Ceiling ceiling(options);
  if (auto run = ceiling.run(*sizes); !run) return complain(run.error());
  if (auto written = write_json(options.json, ceiling.report); !written) return complain(written.error());
  return 0;
}

}  // namespace memkv::bench
