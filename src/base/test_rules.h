#pragma once
/// Switches that take one rule out of the product, so that a test can be seen to fail without the rule: the ten of
/// docs/data-file.md, and others that the simulator looks after (sim/bugs.cc). They exist only in programs that are
/// built with MEMKV_TEST_RULES; elsewhere each is a constant true, and the compiler drops it.

namespace memkv::base {

struct TestRules {
  bool acknowledged_in_order = true;  ///< 1: extents are acknowledged in log order
  bool own_place = true;              ///< 2: place and chain of headers are checked at recovery
  bool complete_up_to = true;         ///< 3: bad payloads behind the mark are torn, before it rot
  bool dies_where_it_lies = true;     ///< 4: tombstones in the old record's log
  bool freed_waits = true;            ///< 5: a freed segment waits for its moves and its reads
  bool sequences_reserved = true;     ///< 6: sequences are durably reserved before use
  bool membership = true;             ///< 7: a stale member comes back empty
  bool random_namespaces = true;      ///< 8: namespace ids are random, not positions
  bool file_lock = true;              ///< 9: one process alone has a drive open
  bool durable = true;                ///< 10: RWF_DSYNC where the cache is volatile
  // Rules beside the ten, or parts of one.
  bool flushes_everywhere = true;  ///< 8: a flush is a record in each log, not in the first alone
  bool clients_in_order = true;    ///< epochs fence what a client has given up; deadlines count by the client's stamp
  bool losses_noticed = true;      ///< recovery treats what it cannot read as a loss, never as the end of the log
  bool dropped_for_good = true;    ///< what the index had no room for gets tombstones, and stays gone
  bool answered_late = true;       ///< a change is answered when its write is done
  bool quiet_memory = true;        ///< the op of a client gets its memory back from the link before it completes
  bool credit_returned = true;     ///< credit comes back when the frame that used it has ended
  bool slot_freed_once = true;
  bool tier_held = true;           ///< what is sent from the RAM tier is held until it has left
  bool reads_ask_owner = true;     ///< a read goes to the server that the list gives its key
  bool refused_alone = true;       ///< a server that is gone refuses its own ops only, not those beside them in a batch
  bool shm_in_order = true;        ///< clients_in_order holds over shm as over tcp
  bool windows_counted = true;     ///< a window counts until nobody has its memory any more
  bool slot_until_placed = true;   ///< what a NIC sends is held until its completion, not until it is posted
  bool rdma_probed_again = true;   ///< what tcp told of a server holds while tcp is open, also when all of RDMA is lost
  bool slot_by_completion = true;  ///< a slot is held until its drive I/O has completed, whatever the deadline
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
