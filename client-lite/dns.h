// Tells the host's resolver about the name servers behind the tunnel, through whichever program
// is there: resolvectl (systemd-resolved) or resolvconf. Both keep what belongs to a device apart,
// so taking it back touches nothing else. /etc/resolv.conf is never written.
//
// Owner: HostDns.
#pragma once

#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "client-lite/tool_runner.h"
#include "lib/net/address.h"

namespace adit::client {

enum class DnsTool : uint8_t { resolvectl, resolvconf };

const char* name_of(DnsTool tool);
std::optional<DnsTool> dns_tool_named(std::string_view name);
// The program that serves this host, nothing when there is none.
std::optional<DnsTool> find_dns_tool();

// What tells it these servers, in this order, instead of what was set for this device before.
// `for_all`: the tunnel is the default route, so every name is asked there; `was_for_all`: so it
// may have been before.
std::deque<ToolCommand> commands_to_set(DnsTool tool, const std::string& device,
                                        std::span<const Ipv4Address> servers, bool for_all,
                                        bool was_for_all);
ToolCommand command_to_unset(DnsTool tool, const std::string& device);

}  // namespace adit::client
