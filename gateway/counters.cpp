#include "gateway/counters.h"

#include <numeric>

namespace adit::gateway {

const char* fate_name(Fate fate) {
  static constexpr const char* kNames[] = {"next", "taken",
#define X(name) #name,
                                           ADIT_DROP_REASONS(X)
#undef X
  };
  return fate < Fate::count ? kNames[static_cast<unsigned>(fate)] : "?";
}

uint64_t Counters::drops_total() const {
  return std::accumulate(fates.begin() + kFirstDrop, fates.end(), uint64_t{0});
}

Counters& Counters::operator+=(const Counters& other) {
  for (unsigned i = 0; i < kFates; ++i) fates[i] += other.fates[i];
#define X(name) name += other.name;
  ADIT_EVENTS(X)
#undef X
  return *this;
}

int64_t Counters::held() const {
  return static_cast<int64_t>(received + handed_in + taken_over + generated - transmitted -
                              handed_out - handed_over - consumed - drops_total());
}

}  // namespace adit::gateway
