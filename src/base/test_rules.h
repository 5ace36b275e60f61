#pragma once
/// Switches that take one of the ten rules of docs/data-file.md out, so that each rule's test can be seen to fail
/// without it. They exist only in programs built with MEMKV_TEST_RULES; elsewhere every rule is a constant true.

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
