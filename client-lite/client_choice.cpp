// Which gateway is tried next, and when to go back to the one that is preferred.
#include <algorithm>

#include "client-lite/client.h"
#include "client-lite/clock.h"

namespace adit::client {

void Client::use(size_t position) {
  position_ = position;
  gateway_index_ = order_[position];
}

// The one in use is given up. When each had its turn, the nearest may be another.
void Client::use_next(uint64_t now_ns) {
  if (position_ == 0) return_watch_.on_left(now_ns);
  use((position_ + 1) % order_.size());
  if (position_ == 0) is_choice_due_ = chooses_nearest();
}

bool Client::begin_survey(std::span<const GatewayConfig> gateways, uint64_t now_ns) {
  if (survey_.begin(gateways, rights_, now_ns) && watch(survey_.socket_fd(), kTagSurvey)) {
    return true;
  }
  survey_.stop();
  log_.warning("gateways cannot be measured: no socket is to be had");
  return false;
}

void Client::watch_gateways(uint64_t now_ns) {
  if (waits_to_return() && now_ns >= next_round_ns_) {
    const bool began = begin_survey({&config_.gateways[order_[0]], 1}, now_ns);
    next_round_ns_ = began ? UINT64_MAX : now_ns + config_.return_check_ns;
  }
  switch (survey_.tick(now_ns)) {
    case Survey::Step::none:
      return;
    case Survey::Step::addressed: {
      std::vector<Ipv4Address> addresses;
      const std::vector<Survey::Finding>& findings = survey_.findings();
      for (size_t i = 0; i < findings.size(); ++i) {
        const std::vector<Ipv4Address>& found = findings[i].addresses;
        if (found.empty()) continue;
        known_addresses_.set(findings.size() > 1 ? i : order_[0], found);
        addresses.insert(addresses.end(), found.begin(), found.end());
      }
      return network_.set_other_gateways(std::move(addresses));
    }
    case Survey::Step::done:
      return phase_ == Phase::choosing ? on_choice(now_ns) : on_first_asked(now_ns);
  }
}

void Client::on_choice(uint64_t now_ns) {
  is_choice_due_ = false;
  const size_t first = order_[0];
  order_ = nearest_first(survey_.findings());
  for (const size_t i : order_) {
    const GatewayConfig& gateway = config_.gateways[i];
    const Survey::Finding& found = survey_.findings()[i];
    if (const auto round_trip_ns = found.round_trip_ns) {
      known_addresses_.prefer(i, *found.answered);
      log_.info("gateway %s:%u is %.1f ms away", gateway.host.c_str(), gateway.port,
                static_cast<double>(*round_trip_ns) / 1e6);
    } else {
      log_.info("gateway %s:%u does not answer", gateway.host.c_str(), gateway.port);
    }
  }
  // What was seen of one does not hold for another.
  if (order_[0] != first) return_watch_ = ReturnWatch(config_.return_after_ns.value_or(0));
  use(0);
  begin_attempt(now_ns);
}

// The tunnel is up at another gateway.
void Client::on_first_asked(uint64_t now_ns) {
  if (!waits_to_return()) return;
  next_round_ns_ = now_ns + config_.return_check_ns;
  const bool answered = survey_.findings()[0].round_trip_ns.has_value();
  log_.debug("the preferred gateway %s", answered ? "answers" : "does not answer");
  if (!return_watch_.on_round(answered, now_ns)) return;
  const Be16 port = Be16::from_host(config_.gateways[order_[0]].port);
  begin_second({*survey_.findings()[0].answered, port}, now_ns);
}

}  // namespace adit::client
