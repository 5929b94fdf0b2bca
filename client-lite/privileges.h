// The rights that this process has.
#pragma once

namespace adit::client {

// Whether it may change network devices, addresses and routes.
bool has_net_admin();

}  // namespace adit::client
