// The rights that this process has, and how it gives up those that it does not need.
#pragma once

#include <linux/capability.h>

#include <cstdint>
#include <string>

namespace adit::client {

// Sets of capabilities, a bit each.
inline constexpr uint32_t kNoRights = 0;
// For the device, addresses, routes, large socket buffers and the packets' mark.
inline constexpr uint32_t kNetAdmin = uint32_t{1} << CAP_NET_ADMIN;
// What scripts of root's need that write the resolver's files and start name servers anew.
inline constexpr uint32_t kScriptRights =
    uint32_t{1} << CAP_CHOWN | uint32_t{1} << CAP_DAC_OVERRIDE | uint32_t{1} << CAP_FOWNER |
    uint32_t{1} << CAP_KILL | uint32_t{1} << CAP_SETGID | uint32_t{1} << CAP_SETUID |
    uint32_t{1} << CAP_NET_BIND_SERVICE;

// Whether it may change network devices, addresses and routes.
bool has_net_admin();

// Gives up every capability but these, for good, children included. False: `refusal` says why.
bool drop_privileges(uint32_t kept, std::string& refusal);

}  // namespace adit::client
