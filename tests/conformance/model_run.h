// One episode: each step goes through the real packet path and through ModelNat, and all that comes
// out must be equal, byte for byte.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "tests/conformance/model_nat.h"
#include "tests/conformance/model_steps.h"

namespace adit::gateway::test {

class ModelRun : public Lab {
 public:
  explicit ModelRun(const Crowd& crowd)
      : Lab({.nat = crowd.settings(), .workers = crowd.workers}),
        model_(nat_settings_, *tunnels_) {}
  ~ModelRun() override { TearDown(); }
  void TestBody() override {}

  // Nothing, or what went wrong, at step `failed_at`.
  std::optional<std::string> run(const std::vector<Step>& steps);

  uint64_t hairpinned() const { return counters_.hairpinned; }

  size_t failed_at = 0;
  std::array<uint64_t, Step::verbs> passed{};  // how many packets of each verb got through
  std::map<Fate, uint64_t> dropped;

 private:
  // Each empty, or what went wrong.
  std::string take(const Step& step);
  std::string send_out(const Step& step);
  std::string send_in(Step step);
  std::string send_hairpin(Step step);
  std::string send_error_in(const Step& step);
  std::string send_error_out(const Step& step);
  std::string send_error_round(const Step& step);
  std::string learn(const Step& step, const Use& use);
  std::string learn_mapping(const Step& step, const Endpoint& external, const Use& use);
  std::string learn_refusal(const Step& step, const Endpoint& to, Fate reason,
                            const std::vector<Hop>& out);
  std::string learn_id(const Step& step, const Endpoint& external, const Endpoint& to,
                       const std::vector<Hop>& out, adit::test::Ipv4Options& ip);
  std::string compare(const Step& step, const std::vector<Hop>& expected, Fate drop,
                      const std::vector<Hop>& out);
  std::string compare(const Step& step, const std::vector<Hop>& expected, Fate drop = Fate::next) {
    return compare(step, expected, drop, come_out());
  }

  uint32_t now_s() const { return static_cast<uint32_t>(now_ns_ / tunnel::kSecondNs); }
  void open_if_closed(uint32_t slot);
  void reopen(uint32_t slot);
  std::optional<Endpoint> last_left_from(Kind kind, uint32_t slot, uint16_t port) const;
  Endpoint pool_endpoint(unsigned which) const;
  Endpoint ask_where_it_is(const Step& step);
  std::optional<Fate> refused_by() const;
  std::string drops() const;
  bool may_tell(uint32_t slot);
  std::vector<Hop> told(uint32_t slot, uint8_t type, uint8_t code, const Bytes& about);
  std::vector<Hop> refusal(const Step& step, const Endpoint& to);

  ModelNat model_;
  std::array<bool, kModelSlots + 1> is_open_{};
  std::map<std::tuple<Kind, uint32_t, uint16_t>, Endpoint> left_from_;
  std::map<std::tuple<Kind, uint32_t, uint32_t>, std::set<uint16_t>> ids_;
  std::array<Count, kFates> fates_before_{};
  uint32_t told_at_s_ = 0;
  std::map<unsigned, unsigned> told_;  // by worker: each may say so much
};

}  // namespace adit::gateway::test
