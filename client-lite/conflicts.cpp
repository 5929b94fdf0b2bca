#include "client-lite/conflicts.h"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>

namespace adit::client {
namespace {

Ipv4Address address_of(const sockaddr* address) {
  return {Be32::from_raw(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr)};
}

}  // namespace

std::vector<HostAddress> host_addresses(const std::string& except_device) {
  std::vector<HostAddress> found;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return found;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET) continue;
    if (entry->ifa_netmask == nullptr || entry->ifa_name == except_device) continue;
    const auto length_bits =
        static_cast<uint8_t>(std::popcount(address_of(entry->ifa_netmask).host()));
    found.push_back({entry->ifa_name, {address_of(entry->ifa_addr), length_bits}});
  }
  freeifaddrs(list);
  return found;
}

std::string conflict_of(const Ipv4Interface& wanted, Ipv4Address gateway,
                        std::span<const HostAddress> host) {
  if (wanted.prefix().contains(gateway)) {
    return "the gateway's own address " + gateway.to_string() + " lies in the tunnel's network " +
           wanted.to_string() + ": its packets would go into the tunnel";
  }
  for (const HostAddress& other : host) {
    const bool is_same = other.address.address == wanted.address;
    const bool takes_network = wanted.length_bits < 32 &&
                               wanted.length_bits >= other.address.length_bits &&
                               other.address.prefix().contains(wanted.address);
    if (is_same || takes_network) {
      return "the tunnel's address " + wanted.to_string() + " is in a network that " +
             other.device + " is in already, with " + other.address.to_string();
    }
  }
  return {};
}

const HostAddress* network_taken_by(const Ipv4Prefix& destination,
                                    std::span<const HostAddress> host) {
  const auto found = std::find_if(host.begin(), host.end(), [&](const HostAddress& own) {
    return destination.length_bits >= own.address.length_bits &&
           own.address.prefix().contains(destination.address);
  });
  return found == host.end() ? nullptr : &*found;
}

}  // namespace adit::client
