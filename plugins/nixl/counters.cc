#include "counters.h"

#include <array>

namespace memkv::nixl {
namespace {

struct Described {
  const char* name;
  const char* help;
  Counter Counters::*counter;
};

constexpr std::array kDescribed = {
    Described{"read_requests_total", "Reads posted.", &Counters::read_requests},
    Described{"write_requests_total", "Writes posted.", &Counters::write_requests},
    Described{"read_descriptors_total", "Descriptors of posted reads.", &Counters::read_descriptors},
    Described{"write_descriptors_total", "Descriptors of posted writes.", &Counters::write_descriptors},
    Described{"read_wire_operations_total", "Ranges of keys fetched.", &Counters::read_wire_ops},
    Described{"write_wire_operations_total", "Ranges of keys written.", &Counters::write_wire_ops},
    Described{"read_bytes_total", "Bytes delivered to descriptors.", &Counters::read_bytes},
    Described{"write_bytes_total", "Bytes stored from descriptors.", &Counters::write_bytes},
    Described{"read_wire_bytes_total", "Bytes fetched.", &Counters::read_wire_bytes},
    Described{"write_wire_bytes_total", "Bytes sent and stored.", &Counters::write_wire_bytes},
    Described{"refetched_bytes_total", "Bytes fetched again where no copy serves better.", &Counters::refetched_bytes},
    Described{"copies_total", "Local copies.", &Counters::copies},
    Described{"copied_bytes_total", "Bytes of local copies.", &Counters::copied_bytes},
    Described{"vram_direct_bytes_total", "Bytes that NICs moved to and from VRAM.", &Counters::vram_direct_bytes},
    Described{"vram_staged_bytes_total", "Bytes of VRAM that went through host memory.", &Counters::vram_staged_bytes},
    Described{"misses_total", "Wire operations without an object, or all of their range.", &Counters::misses},
    Described{"unreachable_total", "Wire operations whose server is down or silent.", &Counters::unreachable},
    Described{"timeouts_total", "Wire operations not done by the deadline.", &Counters::timeouts},
    Described{"refusals_total", "Wire operations that their server did not take.", &Counters::refusals},
    Described{"errors_total", "Wire operations that failed otherwise.", &Counters::errors},
    Described{"failed_requests_total", "Requests that ended with an error.", &Counters::failed_requests},
    Described{"canceled_requests_total", "Requests released under way.", &Counters::canceled_requests},
    Described{"range_writes_total", "Writes that change a part of an object.", &Counters::range_writes},
    Described{"range_write_bytes_total", "Bytes of writes that change a part of an object.",
              &Counters::range_write_bytes},
    Described{"already_present_total", "Writes left out by write_mode=if_absent.", &Counters::already_present},
    Described{"queries_total", "queryMem calls.", &Counters::queries},
    Described{"queried_keys_total", "Keys asked for by queryMem.", &Counters::queried_keys},
    Described{"found_keys_total", "Keys found by queryMem.", &Counters::found_keys},
    Described{"unasked_keys_total", "Keys whose servers could not be asked by queryMem.", &Counters::unasked_keys},
    Described{"plan_nanoseconds_total", "Time in planning.", &Counters::plan_ns},
    Described{"wire_nanoseconds_total", "Time of requests on the wire.", &Counters::wire_ns},
    Described{"copy_nanoseconds_total", "Time of requests in local copies.", &Counters::copy_ns},
};

struct DescribedOfRail {
  const char* name;
  const char* help;
  uint64_t RailCounters::*counter;
};

/// Of the process: its backends and clients share the rails.
constexpr std::array kDescribedOfRails = {
    DescribedOfRail{"rail_links_total", "Queue pairs opened.", &RailCounters::links_total},
    DescribedOfRail{"rail_operations_total", "Units of operations sent.", &RailCounters::ops},
    DescribedOfRail{"rail_bytes_in_total", "Bytes that arrived.", &RailCounters::bytes_in},
    DescribedOfRail{"rail_bytes_out_total", "Bytes sent.", &RailCounters::bytes_out},
    DescribedOfRail{"rail_failures_total", "Links that ended with an error.", &RailCounters::failures},
    DescribedOfRail{"rail_retry_errors_total", "Links whose peer did not answer.", &RailCounters::retry_errors},
    DescribedOfRail{"rail_rnr_errors_total", "Links whose peer had no receive posted.", &RailCounters::rnr_errors},
    DescribedOfRail{"rail_access_errors_total", "Links with a bad key or range.", &RailCounters::access_errors},
    DescribedOfRail{"rail_switches_total", "Times that operations went another way.", &RailCounters::switches},
};

/// Backslash, quote and line break, as label values want them.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    out += c == '\n' ? "\\n" : std::string(1, c);
  }
  return out;
}

std::string number(const Counter& counter) { return std::to_string(counter.value()); }

}  // namespace

std::string summary(const Counters& c) {
  return "reads " + number(c.read_requests) + " with " + number(c.read_descriptors) + " descriptors in " +
         number(c.read_wire_ops) + " wire operations and " + number(c.copies) + " copies, " + number(c.read_bytes) +
         " bytes (" + number(c.read_wire_bytes) + " over the wire); writes " + number(c.write_requests) + " with " +
         number(c.write_descriptors) + " descriptors in " + number(c.write_wire_ops) + " wire operations, " +
         number(c.write_bytes) + " bytes, " + number(c.range_writes) + " range writes; misses " + number(c.misses) +
         ", unreachable " + number(c.unreachable) + ", timeouts " + number(c.timeouts) + ", refusals " +
         number(c.refusals) + ", failed " + number(c.failed_requests) + ", canceled " + number(c.canceled_requests) +
         "; ms planning " + std::to_string(c.plan_ns.value() / 1'000'000) + ", wire " +
         std::to_string(c.wire_ns.value() / 1'000'000) + ", copying " + std::to_string(c.copy_ns.value() / 1'000'000);
}

std::string prometheus(const Counters& counters, const std::string& agent) {
  std::string text;
  const std::string label = "{agent=\"" + escaped(agent) + "\"} ";
  for (const Described& one : kDescribed) {
    const std::string name = std::string("memkv_nixl_") + one.name;
    text += "# HELP " + name + " " + one.help + "\n# TYPE " + name + " counter\n";
    text += name + label + number(counters.*one.counter) + "\n";
  }
  return text;
}

std::string prometheus(std::span<const RailCounters> rails, const std::string& agent) {
  std::string text;
  if (rails.empty()) return text;
  for (const DescribedOfRail& one : kDescribedOfRails) {
    const std::string name = std::string("memkv_nixl_") + one.name;
    text += "# HELP " + name + " " + one.help + "\n# TYPE " + name + " counter\n";
    for (const RailCounters& rail : rails) {
      text += name + "{agent=\"" + escaped(agent) + "\",device=\"" + escaped(rail.device) + "\"} ";
      text += std::to_string(rail.*one.counter) + "\n";
    }
  }
  return text;
}

}  // namespace memkv::nixl
