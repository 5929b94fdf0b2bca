// The window against the plainest model there is: a set of everything seen.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "lib/tunnel/session.h"

namespace adit::tunnel {
namespace {

constexpr uint64_t kWindow = ReplayWindow::kWindow;

class Model {
 public:
  bool would_accept(uint64_t counter) const {
    if (counter >= kRejectAfterMessages || seen_.contains(counter)) return false;
    return seen_.empty() || counter > *seen_.rbegin() || *seen_.rbegin() - counter < kWindow;
  }
  void accept(uint64_t counter) { seen_.insert(counter); }
  bool is_highest(uint64_t counter) const { return seen_.empty() || counter > *seen_.rbegin(); }
  void forget_old() {
    while (seen_.size() > 2 * kWindow) seen_.erase(seen_.begin());
  }

 private:
  std::set<uint64_t> seen_;
};

// Offers `counter` to both and compares every answer.
void offer(ReplayWindow& window, Model& model, uint64_t counter) {
  const bool expected = model.would_accept(counter);
  ASSERT_EQ(window.is_highest(counter), model.is_highest(counter)) << counter;
  ASSERT_EQ(window.would_accept(counter), expected) << counter;
  ASSERT_EQ(window.accept(counter), expected) << counter;
  if (expected) model.accept(counter);
  ASSERT_FALSE(window.would_accept(counter)) << counter;
  ASSERT_FALSE(window.accept(counter)) << counter;
}

TEST(ReplayWindow, AcceptsEachCounterInOrderOnce) {
  ReplayWindow window;
  Model model;
  for (uint64_t counter = 0; counter < 3 * kWindow; ++counter) offer(window, model, counter);
}

TEST(ReplayWindow, TakesExactlyTheWindowBelowTheHighest) {
  // Every alignment of the highest within a word, and every counter around both edges.
  for (uint64_t highest = 5 * kWindow; highest < 5 * kWindow + 64; ++highest) {
    ReplayWindow window;
    ASSERT_TRUE(window.accept(highest));
    ASSERT_FALSE(window.accept(highest - kWindow));
    ASSERT_FALSE(window.accept(highest - kWindow - 1));
    ASSERT_FALSE(window.accept(0));
    for (uint64_t back = kWindow - 1; back > 0; --back) {
      ASSERT_TRUE(window.accept(highest - back)) << highest << ' ' << back;
      ASSERT_FALSE(window.accept(highest - back)) << highest << ' ' << back;
    }
  }
}

TEST(ReplayWindow, ForgetsExactlyWhatAJumpOfAnySizeLeavesBehind) {
  for (uint64_t jump = 1; jump <= 2 * kWindow + 130; ++jump) {
    ReplayWindow window;
    const uint64_t start = 10 * kWindow + 17;
    for (uint64_t counter = start - 100; counter <= start; ++counter) window.accept(counter);
    ASSERT_TRUE(window.accept(start + jump));
    // What was seen stays seen or is too old; what was not is taken if it is inside the window.
    ASSERT_FALSE(window.would_accept(start));
    ASSERT_FALSE(window.would_accept(start - 100));
    if (jump > 1) {
      const bool inside = jump - 1 < kWindow;
      ASSERT_EQ(window.would_accept(start + 1), inside) << jump;
      ASSERT_TRUE(window.would_accept(start + jump - 1)) << jump;
    }
    const bool lower_inside = jump + 101 < kWindow;
    ASSERT_EQ(window.would_accept(start - 101), lower_inside) << jump;
  }
}

TEST(ReplayWindow, AgreesWithASetOnAMillionRandomCounters) {
  std::mt19937_64 random(1);
  for (int run = 0; run < 20; ++run) {
    ReplayWindow window;
    Model model;
    uint64_t base = run % 2 == 0 ? 0 : uint64_t{1} << 40;
    for (int i = 0; i < 50'000; ++i) {
      switch (random() % 16) {
        case 0:
          base += random() % (3 * kWindow);
          break;
        case 1:
          base += kWindow - 1 + random() % 3;
          break;
        default:
          base += random() % 3;
      }
      const uint64_t back = random() % (kWindow + 200);
      offer(window, model, random() % 4 == 0 ? base : base - std::min(base, back));
      if (HasFatalFailure()) return;
      if (i % 1000 == 0) model.forget_old();
    }
  }
}

TEST(ReplayWindow, EndsBeforeTheCounterWraps) {
  ReplayWindow window;
  Model model;
  for (uint64_t counter = kRejectAfterMessages - 3 * kWindow; counter < kRejectAfterMessages;
       counter += 1 + counter % 7) {
    offer(window, model, counter);
  }
  offer(window, model, kRejectAfterMessages - 1);  // the last of all, unless it came already
  for (const uint64_t counter : {kRejectAfterMessages, kRejectAfterMessages + 1, ~uint64_t{0} - 1,
                                 ~uint64_t{0}, uint64_t{0}, uint64_t{1}}) {
    EXPECT_FALSE(window.would_accept(counter)) << counter;
    EXPECT_FALSE(window.accept(counter)) << counter;
  }
}

TEST(ReplayWindow, IsNotMovedByACounterBeyondTheLimit) {
  ReplayWindow window;
  EXPECT_FALSE(window.accept(~uint64_t{0}));
  EXPECT_TRUE(window.accept(0));
}

}  // namespace
}  // namespace adit::tunnel
