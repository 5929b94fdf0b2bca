#include "lib/nat/mapping.h"

#include "lib/net/headers.h"

namespace adit::nat {

bool protocol_of(uint8_t ip_protocol, Protocol& out) {
  switch (ip_protocol) {
    case kIpUdp:
      out = Protocol::udp;
      return true;
    case kIpTcp:
      out = Protocol::tcp;
      return true;
    case kIpIcmp:
      out = Protocol::icmp;
      return true;
    default:
      return false;
  }
}

void bind_endpoints(Mapping& mapping, const Endpoint& internal, const Endpoint& external) {
  mapping.internal = internal;
  mapping.external = external;
  const ChecksumDelta l3 = ChecksumDelta().replace(internal.address, external.address);
  const ChecksumDelta port = ChecksumDelta().replace(internal.port, external.port);
  mapping.l3_delta = l3.raw();
  mapping.l4_delta = (l3 + port).raw();
  mapping.port_delta = port.raw();
}

}  // namespace adit::nat
