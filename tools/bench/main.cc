/// The command line of `memkv-bench`: names, help, examples.

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <sstream>
#include <system_error>

#include "base/log.h"
#include "io/congestion.h"
#include "tools/bench/options.h"
#include "tools/build_info.h"
#include "tools/output.h"
#include "tools/unknown_command.h"

namespace memkv::bench {
namespace {

using Chosen = std::function<int()>;

constexpr const char* kFooter =
    "A first run, which starts its own server:\n"
    "  memkv-bench sweep --sizes 64KiB,1MiB --bytes 256MiB\n"
    "\n"
    "Every block holds a pattern of its key, generation and position; buffers are poisoned before a read and every\n"
    "byte is compared, outside the clock. GiB are 2^30 bytes.\n"
    "\n"
    "Exit codes: 0 done, 1 wrong bytes or failed ops, 2 wrong command line, 3 no server, 5 any other failure, such as "
    "a\n"
    "report that could not be written.\n"
    "Environment: MEMKV_SERVERS, MEMKV_AUTH_KEY, MEMKV_TRANSPORT, MEMKV_RDMA_DEVICES, MEMKV_LOG_LEVEL, MEMKV_CONFIG.\n";

/// Runs a command with the congestion control that can be had here. `congestion` becomes its name, or empty for the
/// system's default.
template <typename Run>
int with_congestion(std::string& congestion, Run&& run) {
  auto chosen = io::choose_congestion(congestion, "--congestion");
  if (!chosen) {
    tools::say("memkv-bench: {}\n", chosen.error().text);
    return 2;
  }
  if (!chosen->note.empty()) tools::say("memkv-bench: {}\n", chosen->note);
  congestion = chosen->name;
  return run();
}

constexpr const char* kCongestionHelp =
    "TCP congestion control; default cubic where it is to be had; system leaves it alone";

void add_list(CLI::App* command, const char* name, std::vector<std::string>& into, const char* what) {
  command->add_option(name, into, what)->delimiter(',')->allow_extra_args(false)->type_name("TEXT,...");
}

void add_target(CLI::App* command, TargetOptions& target) {
  const char* group = "Servers";
  add_list(command, "--servers", target.servers, "name=host:port,... (MEMKV_SERVERS); none: an own server is started");
  command->add_option("--auth-key", target.auth_key, "credential: 64 hex characters or @FILE")->group(group);
  command->add_option("--config", target.config, "client settings, YAML")->group(group);
  command->add_option("--transport", target.transport, "auto, shm, rdma or tcp; sweep and nixl: a list, side by side")
      ->group(group);
  command->add_option("--congestion", target.congestion, kCongestionHelp)->group(group);
  command->add_option("--put-checksum", target.put_checksum, "who makes the checksums of puts: client, server")
      ->capture_default_str()
      ->group(group);
  command->add_option("--own", target.own, "the own server's storage: file, memory")
      ->capture_default_str()
      ->group(group);
  command->add_option("--own-workers", target.own_workers, "the own server's workers; 0: its default")->group(group);
  command->add_option("--dir", target.dir, "where the own server's files go; default TMPDIR or /tmp")->group(group);
}

void add_rails(CLI::App* command, TargetOptions& target) {
  command
      ->add_option(
          "--rails", target.rails,
          "of rdma, a list such as 1,2: the first usable of rdma_devices (MEMKV_RDMA_DEVICES), else of all devices")
      ->group("Servers");
}

/// The options of a load, which several commands share.
void add_load(CLI::App* command, LoadOptions& load) {
  const char* group = "Load";
  add_list(command, "--sizes", load.sizes, "block sizes; default 4KiB to 16MiB, doubling");
  command->add_option("--bytes", load.bytes, "per size: keys enough to hold that much")
      ->capture_default_str()
      ->group(group);
  command->add_option("--threads", load.threads, "client threads, each with its own connections")
      ->capture_default_str()
      ->group(group);
  command->add_option("--depth", load.depth, "batches under way per thread")->capture_default_str()->group(group);
  command->add_option("--batch", load.batch, "ops of a batch")->capture_default_str()->group(group);
  command->add_option("--mix", load.mix, "a third run of reads and writes: the share of reads, such as 0.7")
      ->group(group);
  command->add_option("--order", load.order, "of the keys: uniform, zipf, sequential")
      ->capture_default_str()
      ->group(group);
  command->add_option("--verify", load.verify, "full, sampled, off")->capture_default_str()->group(group);
  command->add_option("--window", load.window, "buffers of all threads: larger than caches")
      ->capture_default_str()
      ->group(group);
  command->add_option("--seconds", load.seconds, "at most, of timed work, per size and op")
      ->capture_default_str()
      ->group(group);
  command->add_option("--deadline", load.deadline, "of a batch; default the client's")->group(group);
}

void add_sweep(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("sweep", "Block sizes one after the other: write, then read, all verified");
  command->footer(
      "Examples:\n"
      "  memkv-bench sweep                                        4 KiB to 16 MiB on an own server\n"
      "  memkv-bench sweep --servers 127.0.0.1:9900 --auth-key @memkv.key --sizes 64KiB,1MiB --threads 4 --json "
      "out.json\n"
      "  memkv-bench sweep --mix 0.7 --order zipf --html report.html\n"
      "  memkv-bench sweep --transport tcp,rdma --rails 1,2\n");
  auto options = std::make_shared<SweepOptions>();
  add_target(command, options->target);
  add_rails(command, options->target);
  add_load(command, options->load);
  command->add_flag("--no-ceiling", options->no_ceiling, "do not measure bare TCP beside each line");
  command->add_flag("--keep", options->keep, "leave the blocks on the servers");
  command->add_option("--json", options->json, "write all results there");
  command->add_option("--html", options->html, "write a report with charts there, one file");
  command->callback([options, &chosen] {
    chosen = [options] { return with_congestion(options->target.congestion, [&] { return run_sweep(*options); }); };
  });
}

void add_scaling(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("scaling", "The same load on the first 1, 2, ... N servers; what each adds");
  command->footer("Example:\n  memkv-bench scaling --servers kv1=10.0.0.10,kv2=10.0.0.11 --auth-key @memkv.key\n");
  auto options = std::make_shared<ScalingOptions>();
  add_target(command, options->target);
  add_load(command, options->load);
  command->add_option("--json", options->json, "write the table there");
  command->callback([options, &chosen] {
    chosen = [options] { return with_congestion(options->target.congestion, [&] { return run_scaling(*options); }); };
  });
}

void add_ceiling(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand("ceiling",
                                         "What this machine can do at most: memory, hashing, bare TCP with two copies "
                                         "and with one, the drive, bare pipelines");
  auto options = std::make_shared<CeilingOptions>();
  add_list(command, "--sizes", options->sizes, "block sizes");
  command->add_option("--congestion", options->congestion, kCongestionHelp);
  command->add_option("--dir", options->dir, "where the drive's file goes; default TMPDIR or /tmp");
  command->add_option("--json", options->json, "write all results there");
  command->callback([options, &chosen] {
    chosen = [options] { return with_congestion(options->congestion, [&] { return run_ceiling(*options); }); };
  });
}

void add_compare(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand(
      "compare", "MemKV beside the bare ceilings, memcached and redis, by turns, same depths and connections");
  auto options = std::make_shared<CompareOptions>();
  add_list(command, "--sizes", options->sizes, "block sizes");
  command->add_option("--repeat", options->repeat, "turns; the median counts")->capture_default_str();
  command->add_option("--drive", options->drive, "PATH or PATH:SIZE: MemKV from a drive, beside bare pipelines");
  command->add_option("--workers", options->workers, "of the MemKV server; 0: its default");
  command->add_option("--busy", options->busy, "processes that compute beside the run")->capture_default_str();
  command->add_option("--transport", options->transport, "of MemKV, a list; default tcp, with --busy tcp,shm");
  command->add_flag("--no-peers", options->no_peers, "without memcached and redis");
  command->add_option("--congestion", options->congestion, kCongestionHelp);
  command->add_option("--dir", options->dir, "for files; default TMPDIR or /tmp");
  command->add_option("--json", options->json, "write all results there");
  command->callback([options, &chosen] {
    chosen = [options] { return with_congestion(options->congestion, [&] { return run_compare(*options); }); };
  });
}

void add_lists(CLI::App& app, Chosen& chosen) {
  CLI::App* command = app.add_subcommand(
      "lists", "One long list of gets beside the same keys in short batches, and a get of one block beside both");
  command->footer("Example:\n  memkv-bench lists --own memory --transport shm --json lists.json\n");
  auto options = std::make_shared<ListsOptions>();
  add_target(command, options->target);
  command->add_option("--count", options->count, "gets of the list")->capture_default_str();
  command->add_option("--keys", options->keys, "different blocks, gone through again and again")->capture_default_str();
  command->add_option("--block", options->block, "bytes of each")->capture_default_str();
  command->add_option("--batch", options->batch, "gets of a short batch")->capture_default_str();
  command->add_option("--repeat", options->repeat, "rounds of all four; the median counts")->capture_default_str();
  command->add_option("--json", options->json, "write all results there");
  command->callback([options, &chosen] { chosen = [options] { return run_lists(*options); }; });
}

/// `memkv-bench nixl`: its options are named like those of nixlbench, so that a command line can be reused.
void add_nixl(CLI::App& app, Chosen& chosen) {
  CLI::App* command =
      app.add_subcommand("nixl", "The NIXL plugin as nixlbench drives it, logical and wire bytes apart");
  command->footer(
      "Options are named as nixlbench's where it has them. NIXL itself comes from an installed wheel: --wheel,\n"
      "MEMKV_NIXL_WHEEL, the one that ./dev setup made, or what is installed for the active python3.\n"
      "Examples:\n"
      "  memkv-bench nixl                                          4 KiB to 64 MiB, batch 1 and 16, on an own server\n"
      "  memkv-bench nixl --op_type READ --max_block_size 1MiB --recreate_xfer --html nixl.html\n"
      "  memkv-bench nixl --transport tcp,rdma --rails 1,2         side by side, by turns at each block size\n"
      "asked: the transport, and its rails; via: what carried the bytes, as the servers counted them.\n");
  auto options = std::make_shared<NixlOptions>();
  add_target(command, options->target);
  add_rails(command, options->target);
  const auto add = [command](const char* name, auto& into, const char* what) {
    command->add_option(name, into, what)->capture_default_str();
  };
  add("--op_type", options->op_type, "READ, WRITE, both");
  add("--keys", options->keys, "of a batch's descriptors: one (as nixlbench), distinct, both");
  add("--start_block_size", options->start_block_size, "doubled up to the largest");
  add("--max_block_size", options->max_block_size, "largest block");
  add("--start_batch_size", options->start_batch_size, "descriptors of a request; times 16 up to the largest");
  add("--max_batch_size", options->max_batch_size, "largest batch");
  add("--num_threads", options->num_threads, "each with an agent of its own");
  add("--num_iter", options->num_iter, "requests of a thread and line; 0: by --total_bytes");
  add("--warmup_iter", options->warmup_iter, "requests before the clock starts");
  add("--total_buffer_size", options->total_buffer_size,
      "the largest block x the largest batch x threads may have; as much again is taken to read back");
  add("--total_bytes", options->total_bytes, "to move, of a line");
  add("--seconds", options->seconds, "at most, of a line; default 1s, or no limit with --num_iter");
  add("--initiator_seg_type", options->initiator_seg_type, "DRAM");
  command->add_flag("--recreate_xfer", options->recreate_xfer, "a fresh request each iteration, not one posted again");
  command->add_flag(
      "--check_consistency,!--no_check_consistency", options->check_consistency,
      "also write 0xaa, set the buffer to 0x00, read back and compare (default on; flags take =0 and =1)");
  command->add_flag("--no-client", options->no_client, "measure neither our own client nor a bare round trip beside");
  command->add_option("--wheel", options->wheel, "folder of an installed NIXL wheel (MEMKV_NIXL_WHEEL)");
  command->add_option("--plugin", options->plugin, "libplugin_MEMKV.so; default the one of this build");
  command->add_option("--json", options->json, "write all results there");
  command->add_option("--html", options->html, "write a report with charts there, one file");
  command->callback([options, &chosen] {
    chosen = [options] {
      return with_congestion(options->target.congestion, [&] { return run_nixl_command(*options); });
    };
  });
}

/// Parses the command line and runs the chosen subcommand. Exit status: 0 done, 1 failed, 2 wrong usage.
int run(int argc, char** argv) {
  const std::string unknown =
      argc > 1
          ? tools::unknown_command("memkv-bench", argv[1], {"sweep", "scaling", "ceiling", "compare", "lists", "nixl"})
          : "";
  if (!unknown.empty()) {
    tools::say("memkv-bench: {}\n", unknown);
    return 2;
  }
  CLI::App app("Measures MemKV, and verifies every byte.", "memkv-bench");
  app.footer(kFooter);
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("memkv-bench ") + tools::kVersion + " (" + tools::kCommit + ")");
  Chosen chosen;
  add_sweep(app, chosen);
  add_scaling(app, chosen);
  add_lists(app, chosen);
  add_ceiling(app, chosen);
  add_compare(app, chosen);
  add_nixl(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream out, err;
    const int code = app.exit(error, out, err) == 0 ? 0 : 2;
    if (std::fputs(out.str().c_str(), stdout) < 0) return tools::stdout_failed("memkv-bench", errno);
    if (!err.str().empty()) tools::say("{}", err.str());
    return code;
  }
  base::set_log_level(base::LogLevel::kWarn);  // the table says what went over which way
  try {
    return chosen();
  } catch (const std::system_error& error) {
    if (std::ferror(stdout) != 0) return tools::stdout_failed("memkv-bench", error.code().value());
    tools::say("memkv-bench: {}\n", error.what());
  } catch (const std::exception& error) {
    tools::say("memkv-bench: {}\n", error.what());
  }
  return 5;
}

}  // namespace
}  // namespace memkv::bench

int main(int argc, char** argv) {
  memkv::tools::begin_output();
  return memkv::tools::end_output("memkv-bench", memkv::bench::run(argc, argv));
}
