// Offsets in an IPv4 header without options and in what follows it, for the express way, which
// reads packets by words and not by headers.
#pragma once

#include "lib/net/headers.h"

namespace adit::gateway {

inline constexpr unsigned kIpBytes = sizeof(Ipv4Header);
inline constexpr unsigned kTotal = 2;
inline constexpr unsigned kFragment = 6;
inline constexpr unsigned kTtl = 8;
inline constexpr unsigned kProtocol = 9;
inline constexpr unsigned kIpChecksum = 10;
inline constexpr unsigned kSource = 12;
inline constexpr unsigned kDestination = 16;
inline constexpr unsigned kSourcePort = kIpBytes;
inline constexpr unsigned kDestinationPort = kIpBytes + 2;
inline constexpr unsigned kUdpBytes = kIpBytes + 4;
inline constexpr unsigned kUdpChecksum = kIpBytes + 6;
inline constexpr unsigned kTcpOffset = kIpBytes + 12;
inline constexpr unsigned kTcpFlags = kIpBytes + 13;
inline constexpr unsigned kTcpChecksum = kIpBytes + 16;
inline constexpr unsigned kPayload = kIpBytes + sizeof(UdpHeader);

}  // namespace adit::gateway
