// All that the client needs CAP_NET_ADMIN for once its TUN device is made: that device's link,
// address and routes, the gateways' own routes, the kill switch, and its sockets' marks and
// buffers.
//
// The client has no right of its own while it moves packets. A child, `adit-rights`, has this one
// alone, a filter of system calls as narrow as what it does, and hears nobody but the client. It
// makes one change a message, and from confine() on no other than these: at the client's own
// device; routes to a single address elsewhere, marked as ours; routes that refuse. It replaces
// routes only to destinations for which it has made one.
//
//     Client, HostNetwork ──► HostRights ── Change ──► adit-rights ──► rtnetlink, setsockopt()
//                                 └─ without a child: here
//
// Owner: Client.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client-lite/helper_process.h"
#include "client-lite/netlink.h"

namespace adit::client {

class HostRights {
 public:
  // `fwmark`: of the sockets that are prepared.
  explicit HostRights(std::optional<uint32_t> fwmark = {}) : fwmark_(fwmark) {}

  // 0: none.
  uint32_t fwmark() const { return fwmark_.value_or(0); }

  // Who makes the changes. Where this process may make none anyway, there is no child.
  enum class Place : uint8_t { here, in_child };
  // Before there are threads. False: `refusal` says why.
  bool open(Place place, std::string& refusal);
  // From now on the child changes no other device than this one.
  void confine(uint32_t interface_index);

  // Whether anything can be changed at all.
  bool can_change() const;
  // Readable when the child is gone, which it should not be: then is_lost(). -1 without a child.
  int fd() const { return child_.fd(); }
  bool is_lost() const { return child_.was_opened() && child_.fd() < 0; }
  void on_readable();

  // Each is as Netlink's, and returns 0 or an errno; EPIPE when the child is gone.
  int set_link_up(uint32_t interface_index, uint16_t mtu_bytes);
  int add_address(uint32_t interface_index, const Ipv4Interface& address);
  int remove_address(uint32_t interface_index, const Ipv4Interface& address);
  int keep_secondary_addresses(uint32_t interface_index);
  int add_route(const Route& route);
  int replace_route(const Route& route);
  int remove_route(const Route& route);
  int change_refusal(const Refusal& refusal, bool add);

  // The socket's packets have the mark, if there is one. Returns 0 or an errno.
  int mark_socket(int socket);
  // Room for what arrives while its thread is away, beyond what the host gives to everybody if that
  // can be had.
  void enlarge_buffers(int socket);

 private:
  struct Change;

  int make(const Change& change, int socket = -1);
  int make_here(const Change& change, int socket);
  bool allows(const Change& change) const;
  bool has_made_one_like(const Route& route) const;
  int make_for_parent(const Change& change, int socket);
  int ask_child(const Change& change, int socket);
  void serve(int parent);

  const std::optional<uint32_t> fwmark_;
  Netlink netlink_;
  HelperProcess child_;
  // In the child:
  std::optional<uint32_t> device_;  // what it is confined to
  std::vector<Route> made_;         // and has not removed
};

}  // namespace adit::client
