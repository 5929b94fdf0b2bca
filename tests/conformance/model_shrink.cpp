#include "tests/conformance/model_shrink.h"

#include <algorithm>
#include <map>
#include <utility>

#include "tests/conformance/model_run.h"

namespace adit::gateway::test {
namespace {

using Clock = std::chrono::steady_clock;

// Every pair of so many steps is tried, which takes some seconds.
constexpr size_t kPairedStepsMax = 40;

// What is simpler weighs less: fewer steps first, then smaller numbers.
std::pair<size_t, uint64_t> weight(const Episode& episode) {
  const Crowd& crowd = episode.crowd;
  uint64_t sum = uint64_t{crowd.ports} + crowd.deterministic_ports + crowd.low_ports +
                 crowd.blocks + crowd.port_parity + crowd.mappings + crowd.burst +
                 crowd.tcp_opening_s + crowd.dns_s + crowd.workers;
  for (const Step& step : episode.steps) {
    sum += uint64_t{step.verb} + static_cast<unsigned>(step.kind) + step.slot + step.peer +
           step.remote + (step.tcp_flags == kTcpAck ? 0u : step.tcp_flags) + step.port +
           step.peer_port + step.seconds + step.may_fragment;
  }
  return {episode.steps.size(), sum};
}

class Shrinker {
 public:
  Shrinker(const Episode& episode, Clock::time_point end) : best_(episode), end_(end) {}

  Shrunk run() {
    cut_after_failure(best_);
    leave_out_pieces();
    for (std::pair before = weight(best_), after = before;; before = after) {
      simplify_crowd();
      leave_out_alike();
      leave_out_pieces();
      rename();
      simplify_steps();
      after = weight(best_);
      if (after < before) continue;
      leave_out_pairs();
      after = weight(best_);
      if (after == before) break;
    }
    return {best_, !is_late()};
  }

 private:
  bool is_late() const { return Clock::now() >= end_; }

  // Whether it fails; what comes after that does not matter.
  static bool cut_after_failure(Episode& episode) {
    ModelRun run(episode.crowd);
    if (!run.run(episode.steps)) return false;
    episode.steps.resize(run.failed_at + 1);
    return true;
  }

  // Goes on with `candidate` if it is simpler and fails as well.
  bool adopt(Episode candidate) {
    if (weight(candidate) >= weight(best_) || is_late()) return false;
    if (!cut_after_failure(candidate)) return false;
    best_ = std::move(candidate);
    return true;
  }

  template <typename Change>
  bool try_with(Change change) {
    Episode candidate = best_;
    change(candidate);
    return adopt(std::move(candidate));
  }
  // ---- Fewer steps ----

  // Delta debugging: ever smaller pieces, and single steps until none can be spared.
  void leave_out_pieces() {
    for (size_t piece = std::max<size_t>(best_.steps.size() / 2, 1); piece > 0 && !is_late();) {
      bool is_shorter = false;
      for (size_t end = best_.steps.size(); end > 0;) {
        const size_t begin = end > piece ? end - piece : 0;
        is_shorter |= leave_out(begin, end);
        end = std::min(begin, best_.steps.size());
      }
      if (!is_shorter) piece /= 2;
    }
  }

  // Steps from `begin` on and before `end`: altogether, or all but the time that they took.
  bool leave_out(size_t begin, size_t end) {
    const auto first = static_cast<long>(begin);
    const auto last = static_cast<long>(end);
    const auto take_out = [&](Episode& episode) {
      episode.steps.erase(episode.steps.begin() + first, episode.steps.begin() + last);
    };
    uint32_t seconds = 0;
    for (size_t i = begin; i < end; ++i) {
      if (best_.steps[i].verb == Step::wait) seconds += best_.steps[i].seconds;
    }
    if (try_with(take_out)) return true;
    if (seconds == 0) return false;
    if (end - begin > 1) {
      return try_with([&](Episode& episode) {
        episode.steps[begin] = {.verb = Step::wait, .seconds = seconds};
        episode.steps.erase(episode.steps.begin() + first + 1, episode.steps.begin() + last);
      });
    }
    const auto is_wait = [](const Step& step) { return step.verb == Step::wait; };
    const auto is_later = [&](Episode& episode) {
      take_out(episode);
      const auto next = std::find_if(episode.steps.begin() + first, episode.steps.end(), is_wait);
      if (next != episode.steps.end()) next->seconds += seconds;
    };
    const auto is_earlier = [&](Episode& episode) {
      take_out(episode);
      const auto before = std::find_if(
          episode.steps.rend() - first, episode.steps.rend(), is_wait);
      if (before != episode.steps.rend()) before->seconds += seconds;
    };
    return try_with(is_later) || try_with(is_earlier);
  }

  // All steps of one verb, of one tunnel, of one port.
  void leave_out_alike() {
    const auto leave_out_all = [&](auto is_meant) {
      try_with([&](Episode& episode) { std::erase_if(episode.steps, is_meant); });
    };
    for (unsigned verb = 0; verb < Step::verbs; ++verb) {
      leave_out_all([&](const Step& step) { return step.verb == verb; });
    }
    for (const Kind kind : kKinds) {
      leave_out_all([&](const Step& step) {
        return step.kind == kind && step.verb != Step::wait && step.verb != Step::reopen;
      });
    }
    for (uint32_t slot = 1; slot <= kModelSlots; ++slot) {
      leave_out_all([&](const Step& step) {
        return step.slot == slot && step.verb != Step::wait;
      });
    }
  }

  // What only makes sense together may stand apart.
  void leave_out_pairs() {
    if (best_.steps.size() > kPairedStepsMax) return;
    for (size_t second = best_.steps.size(); second-- > 1;) {
      for (size_t first = std::min(second, best_.steps.size()); first-- > 0;) {
        if (second >= best_.steps.size()) break;
        try_with([&](Episode& episode) {
          episode.steps.erase(episode.steps.begin() + static_cast<long>(second));
          episode.steps.erase(episode.steps.begin() + static_cast<long>(first));
        });
      }
    }
  }

  // ---- Simpler ones ----

  // The smallest of a few numbers below the one that stands there.
  template <typename Number, typename FieldOf>
  void lower(std::initializer_list<Number> numbers, FieldOf field_of) {
    for (const Number number : numbers) {
      if (number >= field_of(best_)) return;
      if (try_with([&](Episode& episode) { field_of(episode) = number; })) return;
    }
  }

  void simplify_crowd() {
    lower<uint32_t>({1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64},
                    [](Episode& e) -> uint32_t& { return e.crowd.mappings; });
    lower<uint32_t>({1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48},
                    [](Episode& e) -> uint32_t& { return e.crowd.burst; });
    lower<unsigned>({1, 2}, [](Episode& e) -> unsigned& { return e.crowd.workers; });
    lower<uint32_t>({60}, [](Episode& e) -> uint32_t& { return e.crowd.tcp_opening_s; });
    lower<uint32_t>({0}, [](Episode& e) -> uint32_t& { return e.crowd.dns_s; });
    lower<uint16_t>({32, 128}, [](Episode& e) -> uint16_t& { return e.crowd.ports; });
    lower<uint16_t>({0}, [](Episode& e) -> uint16_t& { return e.crowd.deterministic_ports; });
    lower<uint16_t>({0, 16}, [](Episode& e) -> uint16_t& { return e.crowd.low_ports; });
    lower<uint8_t>({1, 2}, [](Episode& e) -> uint8_t& { return e.crowd.blocks; });
    lower<bool>({false}, [](Episode& e) -> bool& { return e.crowd.port_parity; });
  }

  // Tunnels and ports by small numbers, in the order in which they appear, everywhere at once.
  void rename() {
    try_with([](Episode& episode) {
      std::map<uint8_t, uint8_t> names;
      const auto name = [&](uint8_t& slot) {
        slot = names.try_emplace(slot, static_cast<uint8_t>(names.size() + 1)).first->second;
      };
      for (Step& step : episode.steps) {
        name(step.slot);
        name(step.peer);
      }
    });
    try_with([](Episode& episode) {
      std::map<uint16_t, uint16_t> names;
      const auto name = [&](uint16_t& port) {
        port = names.try_emplace(port, static_cast<uint16_t>(names.size())).first->second;
      };
      for (Step& step : episode.steps) {
        name(step.port);
        name(step.peer_port);
      }
    });
    for (const Kind kind : kKinds) {
      try_with([kind](Episode& episode) {
        for (Step& step : episode.steps) step.kind = kind;
      });
    }
  }

  void simplify_steps() {
    for (size_t i = 0; i < best_.steps.size() && !is_late(); ++i) {
      const auto simplify = [&](auto member, auto value) {
        if (i >= best_.steps.size() || best_.steps[i].*member == value) return;
        try_with([&](Episode& episode) { episode.steps[i].*member = value; });
      };
      simplify(&Step::verb, Step::out);
      simplify(&Step::verb, Step::in);
      simplify(&Step::kind, Kind::udp);
      simplify(&Step::slot, uint8_t{1});
      simplify(&Step::peer, uint8_t{1});
      simplify(&Step::remote, uint8_t{0});
      simplify(&Step::tcp_flags, kTcpAck);
      simplify(&Step::tcp_flags, kTcpSyn);
      simplify(&Step::port, uint16_t{0});
      simplify(&Step::peer_port, uint16_t{0});
      simplify(&Step::may_fragment, false);
      simplify(&Step::seconds, uint32_t{0});
      for (uint32_t less = best_.steps[std::min(i, best_.steps.size() - 1)].seconds / 2; less > 0;
           less /= 2) {
        if (i >= best_.steps.size() || best_.steps[i].seconds <= less) break;
        simplify(&Step::seconds, best_.steps[i].seconds - less);
      }
    }
  }

  Episode best_;
  const Clock::time_point end_;
};

}  // namespace

Shrunk shrink(const Episode& episode, std::chrono::seconds limit) {
  return Shrinker(episode, Clock::now() + limit).run();
}

}  // namespace adit::gateway::test
