// What the client puts on the host: the TUN device's address, MTU and routes, the gateway's own
// route outside, and name servers. It is told the whole wanted state and makes the difference; on
// the way out, and at the next start after a crash, it takes everything back.
//
// Owner: Client.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "client-lite/conflicts.h"
#include "client-lite/host_dns.h"
#include "client-lite/host_rights.h"
#include "client-lite/log.h"
#include "client-lite/netlink.h"
#include "client-lite/routes.h"
#include "client-lite/undo_journal.h"
#include "lib/net/address.h"

namespace adit::client {

class HostNetwork {
 public:
  // Both must outlive this. `rights` is open when this is opened.
  HostNetwork(const Log& log, HostRights& rights)
      : log_(log), rights_(rights), dns_(log, journal_) {}

  // From now on other programs are run by a child (DnsTeller::open()). Name servers need it. False:
  // errno says why.
  bool open_dns(bool sandbox) { return dns_.open(sandbox); }
  // Readable when they have ended: then on_dns_readable(). -1 without the child.
  int dns_fd() const { return dns_.fd(); }
  void on_dns_readable() { dns_.on_readable(); }
  // These routes are to be refused outside the tunnel, from open() until undo_all(); refresh() and
  // mend() see that they are.
  void set_kill_switch(std::span<const Ipv4Prefix> routes);
  // Locks the journal and undoes what a killed run left. Before the TUN device is made. False:
  // `refusal` says why.
  bool open(const std::string& journal_path, std::string& refusal);
  // From now on no other device is changed.
  void set_device(const std::string& name, uint32_t interface_index);

  // What the tunnel gives this host.
  struct Settings {
    Ipv4Interface address;
    Ipv4Address router;  // zero: none
    uint16_t mtu_bytes = 0;
    std::vector<Ipv4Prefix> routes;          // as configured: their owner knows why
    std::vector<Ipv4Prefix> offered_routes;  // the gateway's: none takes a network of this host's
    std::vector<Ipv4Address> dns;
  };
  // Where the tunnel's own packets go: before the first one goes there.
  void set_gateway(Ipv4Address gateway);
  // Gateways beside it that are to be reached outside the tunnel, too.
  void set_other_gateways(std::vector<Ipv4Address> gateways);
  // From earlier settings to these there is no moment in which what traverses goes another way.
  void apply(const Settings& settings);
  enum class Device : uint8_t {
    intact,  // or gone, of which network_watch.h tells
    mended,  // it had been changed
    lost,    // it was changed, and this process may not change it back
  };
  // Puts right what other hands did to the device, and tries again what could not be done.
  Device mend();
  // Takes back what apply() did.
  void withdraw();
  // The same, and the gateway's route and the kill switch too.
  void undo_all();
  // The same after a start that failed; but what an earlier run refused stays refused, for nobody
  // asked for its end.
  void undo_start();

  // Why this address must not go on the device while `gateway` is used, as a sentence; empty:
  // nothing speaks against it.
  std::string conflict_of(const Ipv4Interface& address, Ipv4Address gateway) const;
  // The routes were changed by other hands: makes ours right again. Where the gateway cannot be
  // reached, what leads into the tunnel stays, so that nothing slips past it.
  void refresh();
  // How the tunnel's own packets, with their mark, get to the gateway; nothing: they do not.
  std::optional<OuterPath> outer_path();

  // The MTU of the way to `gateway` outside the tunnel; 0 when there is no way.
  uint16_t outer_mtu_bytes(Ipv4Address gateway);
  // What is routed into the tunnel: of what is wanted, that whose routes are in place.
  std::vector<Ipv4Prefix> traversing() const;
  // The name servers that the host's resolver has accepted.
  const std::vector<Ipv4Address>& dns_servers() const { return dns_.accepted(); }
  // What went wrong last, empty when all that is wanted is in place.
  const std::string& problem() const;

 private:
  void undo_leftovers();
  bool refuse_outside(std::string& refusal);
  void hold_refusals();
  void withdraw_refusals();
  int undo_change(const std::string& change);
  // Of what was to be removed, `error` being what the kernel says: it is removed, or what it was in
  // is gone. Where we may not, or cannot ask, it may still be there.
  static bool is_over(int error);
  void apply_address();
  std::optional<HostAddress> network_sharer() const;
  Ipv4Interface fitting_address() const;
  bool device_is_intact();
  bool has_address(const Ipv4Interface& address) const;
  void put_address(const Ipv4Interface& address);
  void remove_addresses_but(const std::optional<Ipv4Interface>& address);
  void choose_traversing();
  void add_ways_by_policy(std::vector<Route>& table);
  bool is_led_past();
  void reconcile_routes();
  void forget_missing(const std::vector<Route>& table);
  bool install(const Route& route);
  void remove(const Route& route);
  // As the undo journal has it.
  std::string change_of(const Route& route) const;
  static std::string change_of(const Refusal& refused);
  void apply_dns();
  void set_problem(std::string problem);

  const Log& log_;
  HostRights& rights_;
  Netlink netlink_;
  UndoJournal journal_;
  HostDns dns_;
  std::string device_;
  uint32_t interface_index_ = 0;
  Ipv4Address gateway_;
  std::vector<Ipv4Address> other_gateways_;
  std::optional<Settings> settings_;
  std::vector<Ipv4Prefix> traversing_;
  std::vector<Ipv4Interface> addresses_;  // that we put on the device: one, but while it changes
  std::vector<Route> installed_;
  std::vector<Ipv4Prefix> refused_routes_;  // of the kill switch; empty: it is off
  std::vector<Refusal> refusals_;
  std::vector<Refusal> found_refusals_;  // those of them that an earlier run left in force
  std::string kill_switch_problem_;  // what is not refused that should be; empty: all is
  std::string problem_;
  std::set<std::string> logged_problems_;  // so that a problem that stays is logged once
  bool cut_off_ = false;  // that is the problem: no way to the gateway but the tunnel
};

}  // namespace adit::client
