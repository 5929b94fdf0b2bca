// Who may send to a mapping: RFC 4787 §5, in its words. Chosen per protocol; whoever keeps
// sessions (gateway/filter.h) acts on it.
#pragma once

#include <cstdint>

namespace adit::nat {

enum class Filtering : uint8_t {
  endpoint_independent,        // anybody
  address_dependent,           // addresses that the mapping has sent to
  address_and_port_dependent,  // endpoints that the mapping has sent to
};

// As the configuration writes it.
constexpr const char* name_of(Filtering filtering) {
  constexpr const char* kNames[] = {"endpoint-independent", "address-dependent",
                                    "address-and-port-dependent"};
  return kNames[static_cast<unsigned>(filtering)];
}

}  // namespace adit::nat
