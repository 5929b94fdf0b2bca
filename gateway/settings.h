// What the configuration means to each part of the packet path: plain settings, made once at the
// start. What a file says per pool becomes profiles of the translator.
#pragma once

#include <memory>
#include <vector>

#include "gateway/config.h"
#include "gateway/filter.h"
#include "gateway/forwards.h"
#include "gateway/pipeline.h"
#include "gateway/port.h"
#include "lib/nat/nat.h"

namespace adit::gateway {

// `profiles` becomes, for each subscriber, the index of its profile with one lane; those with two
// lanes and more, as far as it may have them, follow it.
nat::Settings nat_settings(const Config& config, std::vector<uint16_t>& profiles);

Filter::Settings filter_settings(const NatConfig& nat);

// `random` is secret: IPv4 identifications follow from it.
PipelineSettings pipeline_settings(const Config& config, const std::vector<PortView>& ports,
                                   uint64_t random);

// In the order of subscribers: each knows where its own begin (control.cpp).
std::vector<Forwards::Forward> all_forwards(const Config& config);

}  // namespace adit::gateway
