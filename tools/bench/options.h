#pragma once
/// The parsed command line of `memkv-bench`: one struct for each command.

#include <cstdint>
#include <string>
#include <vector>

namespace memkv::bench {

/// Texts are as they were typed: sizes "64KiB", durations "2s".
struct TargetOptions {
  std::vector<std::string> servers;  ///< empty, and no MEMKV_SERVERS: a server of its own
  std::string auth_key, config, transport, congestion;
  std::string rails;  ///< a list, for rdma; empty: not asked
  std::string put_checksum = "client";
  std::string own = "file";  ///< where its own server stores: file or memory
  std::string dir;           ///< for files of its own; empty: TMPDIR
  uint32_t own_workers = 0;
};

struct LoadOptions {
  std::vector<std::string> sizes;
  std::string bytes = "512MiB", window = "256MiB", deadline, verify = "full", order = "uniform", seconds = "30s";
  uint32_t threads = 2, batch = 1, depth = 8;
  double mix = 0;  ///< share of reads in a third, mixed run; 0: no such run
};

struct SweepOptions {
  TargetOptions target;
  LoadOptions load;
  bool no_ceiling = false, keep = false;
  std::string json, html;
};

struct ScalingOptions {
  TargetOptions target;
  LoadOptions load;
  std::string json;
};

struct CeilingOptions {
  std::vector<std::string> sizes = {"64KiB", "1MiB", "4MiB"};
  std::string congestion, dir, json;
};

struct CompareOptions {
  std::vector<std::string> sizes = {"4KiB", "64KiB", "1MiB"};
  std::string congestion, dir, json, drive;
  std::string transport;  ///< of MemKV, a list; empty: tcp as the others, with `busy` shm beside it
  uint32_t repeat = 3, workers = 0, busy = 0;
  bool no_peers = false;
};

/// Options are named like nixlbench's where it has them.
struct NixlOptions {
  TargetOptions target;
  std::string op_type = "both", keys = "both", start_block_size = "4KiB", max_block_size = "64MiB";
  std::string total_bytes = "256MiB", total_buffer_size = "4GiB", seconds, initiator_seg_type = "DRAM", wheel, plugin,
              json, html;
  uint32_t start_batch_size = 1, max_batch_size = 16, num_threads = 1, warmup_iter = 1;
  uint64_t num_iter = 0;
  bool recreate_xfer = false, check_consistency = true, no_client = false;
};

struct ListsOptions {
  TargetOptions target;
  std::string block = "4KiB", json;
  uint64_t count = 1'000'000, keys = 16'384, batch = 128;
  uint32_t repeat = 3;
};

/// The commands. They return the exit code: 0 done, 1 wrong bytes or failed ops, 2 bad command line, 3 no server.
int run_sweep(const SweepOptions& options);
int run_scaling(const ScalingOptions& options);
int run_ceiling(const CeilingOptions& options);
int run_lists(const ListsOptions& options);
int run_compare(const CompareOptions& options);
int run_nixl_command(const NixlOptions& options);

}  // namespace memkv::bench
