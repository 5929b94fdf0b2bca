// Where each part of the gateway's configuration stands in its file, kept from the reading to the
// checks that compare parts with one another, so that those name places too. Internal to
// gateway/config*.cpp.
#pragma once

#include <vector>

#include "gateway/config.h"
#include "lib/config/reader.h"

namespace adit::gateway {

struct ConfigPlaces {
  explicit ConfigPlaces(const config::Section& whole)
      : root(whole), tunnel(whole), nat(whole), nat_blocks(whole), nat_deterministic(whole) {}

  config::Section root;
  config::Section tunnel;
  config::Section nat;
  config::Section nat_blocks;
  config::Section nat_deterministic;
  std::vector<config::Section> ports;        // of Config::ports, one for one
  std::vector<config::Section> pools;        // of Config::pools
  std::vector<config::Section> subscribers;  // of Config::subscribers
  std::vector<std::vector<config::Section>> forwards;  // of each of these
};

config::Ipv4Range range_of(const Ipv4Prefix& prefix);
// May a host have these addresses? (RFC 6890: 0/8, 127/8, and 224/3 are no one's.)
bool is_host_range(const config::Ipv4Range& range);

// How the program itself runs: metrics, control, log (config_service.cpp).
void read_service(config::Section& root, Config& config);
// What subscribers have outside (config_reach.cpp).
void check_reach(const Config& config, ConfigPlaces& places);
// Everything that takes more than one value to judge. Sorts `nat.external`.
void check_config(Config& config, ConfigPlaces& places);

}  // namespace adit::gateway
