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

int64_t Counters::held() const {
  return static_cast<int64_t>(received + handed_in + generated - transmitted - handed_out -
                              consumed - drops_total());
}

}  // namespace adit::gateway
