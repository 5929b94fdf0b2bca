// The rights that this process has, and how it gives up those that it does not need.
//
// CAP_NET_ADMIN is all that it ever needs: for the device, addresses, routes, large socket buffers
// and the packets' mark.
#pragma once

#include <string>

namespace adit::client {

// Whether it may change network devices, addresses and routes.
bool has_net_admin();

// Gives up every capability but CAP_NET_ADMIN, or that one too, for good, children included. False:
// `refusal` says why.
bool drop_privileges(bool keep_net_admin, std::string& refusal);

}  // namespace adit::client
