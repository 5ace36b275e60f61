#pragma once
/// Switches that take a rule out: one of the ten of docs/data-file.md, so that its test can be seen to fail without it,
/// or another that the simulator looks after (sim/bugs.cc). They exist only in programs built with MEMKV_TEST_RULES;
/// elsewhere every rule is a constant true.

namespace memkv::base {

struct TestRules {
  bool acknowledged_in_order = true;  ///< 1
  bool own_place = true;              ///< 2: place and chain of headers are checked at recovery
  bool complete_up_to = true;         ///< 3: bad payloads behind the mark are torn, before it rot
  bool dies_where_it_lies = true;     ///< 4: tombstones in the old record's log
  bool freed_waits = true;            ///< 5: a freed segment waits for its moves and its reads
  bool sequences_reserved = true;     ///< 6
  bool membership = true;             ///< 7: a stale member comes back empty
  bool random_namespaces = true;      ///< 8
  bool file_lock = true;              ///< 9
  bool durable = true;                ///< 10: RWF_DSYNC where the cache is volatile
  // Beside the ten.
  bool flushes_everywhere = true;  ///< 8: a flush is a record in each log, not in the first alone
  bool clients_in_order = true;    ///< epochs fence what a client has given up; deadlines are those of the client
  bool losses_noticed = true;      ///< what recovery cannot read is a loss, and never the end of the log
  bool dropped_for_good = true;    ///< what finds no room in the index gets tombstones
  bool answered_late = true;       ///< a change is answered when its write is done
  bool quiet_memory = true;        ///< an op that completes takes its memory back from the link
  bool credit_returned = true;     ///< a frame's credit comes back when the frame ends
  bool slot_freed_once = true;
  bool slot_by_completion = true;  ///< what a drive has of an op's slot is waited for, whatever the op's deadline says
};

#ifdef MEMKV_TEST_RULES
inline TestRules& test_rules() {
  static TestRules rules;
  return rules;
}
inline const TestRules& rules() { return test_rules(); }
#else
constexpr TestRules rules() { return {}; }
#endif

}  // namespace memkv::base
