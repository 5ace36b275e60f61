#include "tools/bench/nixl_mover.h"

#include <algorithm>
#include <map>

namespace memkv::bench {
namespace {

class NixlMover final : public Mover {
 public:
  explicit NixlMover(std::unique_ptr<NixlAgent> agent) : agent_(std::move(agent)) {}
  std::unique_ptr<Transfer> transfer(bool write, const std::vector<NixlAgent::Desc>& descs, size_t bytes) override {
    return std::make_unique<Request>(*agent_, write, descs, bytes);
  }

 private:
  struct Request final : Transfer {
    Request(NixlAgent& agent, bool write, const std::vector<NixlAgent::Desc>& descs, size_t bytes)
        : request(agent, write, descs, bytes) {}
    bool run() override { return request.run(); }
    NixlAgent::Request request;
  };
  std::unique_ptr<NixlAgent> agent_;
};

class ClientMover final : public Mover {
 public:
  ClientMover(Session session, const std::vector<NixlAgent::Object>& objects) : session_(std::move(session)) {
    for (const NixlAgent::Object& object : objects) keys_[object.device] = object.key;
  }
  std::unique_ptr<Transfer> transfer(bool write, const std::vector<NixlAgent::Desc>& descs, size_t bytes) override {
    auto request = std::make_unique<Request>(session_);
    for (const NixlAgent::Desc& desc : descs) {
      const std::string& key = keys_.at(desc.device);
      write ? request->batch.put(key, Gather(desc.address, bytes))
            : request->batch.get(key, Scatter(desc.address, bytes));
    }
    return request;
  }

 private:
  struct Request final : Transfer {
    explicit Request(Session& s) : session(s) {}
    bool run() override {
      const Session::Ticket ticket = session.submit(batch);
      while (!session.done(ticket)) session.poll(std::chrono::milliseconds(100));
      session.collect(ticket, outcomes);
      return std::all_of(outcomes.begin(), outcomes.end(), [](const Outcome& o) { return o.status == Status::kOk; });
    }
    Session& session;
    Batch batch;
    std::vector<Outcome> outcomes;
  };
  Session session_;
  std::map<uint64_t, std::string> keys_;
};

}  // namespace

Result<std::unique_ptr<Mover>, Message> make_nixl_mover(const NixlApi& api, const std::string& name,
                                                        const NixlAgent::Params& params, std::span<std::byte> memory,
                                                        const std::vector<NixlAgent::Object>& objects) {
  auto agent = NixlAgent::make(api, name, params, memory.data(), memory.size(), objects);
  if (!agent) return agent.error();
  return std::unique_ptr<Mover>(std::make_unique<NixlMover>(std::move(*agent)));
}

Result<std::unique_ptr<Mover>, Message> make_client_mover(const ClientOptions& client,
                                                          const std::vector<NixlAgent::Object>& objects) {
  auto session = Session::connect(client);
  if (!session) return session.error();
  return std::unique_ptr<Mover>(std::make_unique<ClientMover>(std::move(*session), objects));
}

}  // namespace memkv::bench
