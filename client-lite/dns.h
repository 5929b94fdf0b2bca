// What the host's resolver is told about the name servers behind the tunnel, through whichever
// program is there: resolvectl (systemd-resolved) or resolvconf. Both keep what belongs to a device
// apart, so taking it back touches nothing else. /etc/resolv.conf is never written.
//
// Owner: HostDns says what; DnsTeller has it done.
#pragma once

#include <net/if.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client-lite/tool_runner.h"
#include "lib/net/address.h"

namespace adit::client {

enum class DnsTool : uint8_t { resolvectl, resolvconf };

const char* name_of(DnsTool tool);
std::optional<DnsTool> dns_tool_named(std::string_view name);
// The program that serves this host, nothing when there is none.
std::optional<DnsTool> find_dns_tool();

// Of a fixed size, to travel as it stands in memory.
struct DnsRequest {
  static constexpr size_t kServersMax = 8;  // a lease has four

  DnsTool tool = DnsTool::resolvectl;
  uint8_t for_all = 0;      // the tunnel is the default route: every name is asked there
  uint8_t was_for_all = 0;  // so it may have been before
  uint8_t server_count = 0;
  std::array<char, IF_NAMESIZE> device = {};
  std::array<Ipv4Address, kServersMax> servers = {};  // in the order in which they are to be asked

  // Whether it can be what a client asks: a device's name, and so many servers.
  bool is_sound() const;
};

// To have these servers, the first eight of them, instead of what the device had before.
DnsRequest request_to_set(DnsTool tool, const std::string& device,
                          std::span<const Ipv4Address> servers, bool for_all, bool was_for_all);
// To have none.
DnsRequest request_to_unset(DnsTool tool, const std::string& device);

// The programs to be run for it, one after the other.
std::vector<ToolCommand> commands_of(const DnsRequest& request);

}  // namespace adit::client
