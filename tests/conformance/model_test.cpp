// Random packets both ways, and from one subscriber to another, through the real packet path and
// through ModelNat: every output equal, byte for byte. A failing episode is shrunk to a short one
// and printed.
//
//   ADIT_SEED=7 ADIT_PACKETS=10000000 conformance --gtest_filter='Model.*'
//
// A million by default, which takes seconds; .ci/run asks for ten.
#include <cstdlib>
#include <iostream>

#include "tests/conformance/model_run.h"
#include "tests/conformance/model_shrink.h"

namespace adit::gateway::test {
namespace {

constexpr uint64_t kPacketsDefault = 1'000'000;
constexpr size_t kEpisodeSteps = 20'000;  // each episode has a gateway of its own
constexpr std::chrono::seconds kShrinkingMax{60};

uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// The short episode, and what goes wrong in it.
std::string shortest(const Episode& episode) {
  const Shrunk few = shrink(episode, kShrinkingMax);
  ModelRun run(few.episode.crowd);
  std::ostringstream text;
  text << "shrunk to " << few.episode.steps.size() << " steps";
  if (!few.is_done) text << ", and no further in " << kShrinkingMax.count() << " s";
  text << ":\n" << few.episode << run.run(few.episode.steps).value_or("which pass");
  return text.str();
}

TEST(Model, Every_RandomPacketsAgreeWithAPlainMap) {
  const uint64_t seed = from_environment(
      "ADIT_SEED",
      static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count()));
  const uint64_t packets = from_environment("ADIT_PACKETS", kPacketsDefault);
  std::cout << "ADIT_SEED=" << seed << " ADIT_PACKETS=" << packets << std::endl;

  uint64_t sent = 0;
  uint64_t hairpinned = 0;
  std::array<uint64_t, Step::verbs> passed{};
  std::map<Fate, uint64_t> dropped;
  for (uint64_t i = 0; sent < packets; ++i) {
    const Episode episode = random_episode(seed + i, kEpisodeSteps);
    std::optional<std::string> wrong;
    {
      ModelRun run(episode.crowd);
      wrong = run.run(episode.steps);
      for (unsigned verb = 0; verb < Step::verbs; ++verb) passed[verb] += run.passed[verb];
      hairpinned += run.hairpinned();
      for (const auto& [fate, count] : run.dropped) dropped[fate] += count;
    }
    if (wrong) {
      FAIL() << "seed " << seed + i << ", " << *wrong << '\n' << shortest(episode);
    }
    sent = 0;
    for (const uint64_t count : passed) sent += count;
    for (const auto& [fate, count] : dropped) sent += count;
  }
  std::cout << "passed:";
  for (unsigned verb = 0; verb < Step::verbs; ++verb) {
    if (passed[verb] > 0) std::cout << ' ' << passed[verb] << ' ' << name_of(verb) << ',';
  }
  std::cout << " of these " << hairpinned << " turned round; dropped:";
  for (const auto& [fate, count] : dropped) std::cout << ' ' << count << ' ' << fate_name(fate);
  std::cout << std::endl;

  if (packets < kPacketsDefault) return;
  // A model test that meets no limit tests little, nor one whose packets get nowhere.
  for (const Fate fate : {Fate::no_mapping, Fate::icmp_no_mapping, Fate::mapping_limit,
                          Fate::rate_limited, Fate::port_limit, Fate::pool_exhausted,
                          Fate::ttl_exceeded}) {
    EXPECT_GT(dropped[fate], 0u) << fate_name(fate);
  }
  EXPECT_GT(hairpinned, packets / 100);
  for (const Step::Verb verb : {Step::out, Step::in, Step::in_at, Step::hairpin_at,
                                Step::error_in, Step::error_out, Step::error_round}) {
    EXPECT_GT(passed[verb], 0u) << name_of(verb);
  }
}

}  // namespace
}  // namespace adit::gateway::test
