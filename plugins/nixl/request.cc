#include "request.h"

#include "base/clock.h"

namespace memkv::nixl {

using Wait = Work::Wait;

Request::Request(abi::Operation operation, const Options& options, Counters& counters, Driver& driver,
                 LocalMovers& movers)
    : options_(options),
      counters_(counters),
      driver_(driver),
      plan_(operation, options, movers),
      outcome_(plan_, counters),
      transfer_(plan_, outcome_, counters, movers) {}

void Request::plan(Planner& planner, const abi::MetaList& local, const abi::MetaList& remote) {
  plan_.plan(planner, local, remote);
  outcome_.prepare();
  transfer_.prepare();
}

Wait Request::start(Session& session) {
  outcome_.begin();
  (plan_.is_read() ? counters_.read_requests : counters_.write_requests).add();
  (plan_.is_read() ? counters_.read_descriptors : counters_.write_descriptors).add(plan_.descriptor_count());
  return ended_if(transfer_.start(session, deadline_ns()));
}

/// A default deadline allows for what is ahead of it.
uint64_t Request::deadline_ns() const {
  const uint64_t stated = base::SystemClock().now_ns() + options_.timeout_ns(plan_.operation());
  return options_.states_timeout() ? stated : stated + driver_.allowance_ns();
}

Wait Request::step(Session& session) {
  return transfer_.is_idle() ? Wait::kNothing : ended_if(transfer_.step(session));
}

void Request::cancel(Session& session) {
  outcome_.cancel();
  transfer_.cancel(session);
}

void Request::fail_unstarted() {
  outcome_.begin();
  outcome_.note(abi::Status::kBackend);
  ended_if(Wait::kNothing);
}

/// The last word: from here on the request may be posted again, or released.
Wait Request::ended_if(Wait wait) {
  if (wait == Wait::kNothing) status_.store(outcome_.end(), std::memory_order_release);
  return wait;
}

}  // namespace memkv::nixl
