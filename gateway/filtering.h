// Who may send to a mapping: RFC 4787 §5, in its words. Chosen per protocol in the configuration.
#pragma once

#include <cstdint>

namespace adit::gateway {

enum class Filtering : uint8_t {
  endpoint_independent,        // anybody
  address_dependent,           // addresses that the mapping has sent to
  address_and_port_dependent,  // endpoints that the mapping has sent to
};

}  // namespace adit::gateway
