// The tunnel's name servers at the host's resolver. The programs that tell it (dns_teller.h) run
// beside the client, one at a time: no packet waits for them but at the client's start and end.
// What one of them refuses is a problem, and tried again when it is wanted again.
//
// Owner: HostNetwork.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "client-lite/dns_teller.h"
#include "client-lite/log.h"
#include "client-lite/undo_journal.h"
#include "lib/net/address.h"

namespace adit::client {

class HostDns {
 public:
  // Both must outlive this.
  HostDns(const Log& log, UndoJournal& journal) : log_(log), journal_(journal) {}

  // Makes the child that runs programs (DnsTeller::open()). Without it want() waits for them.
  // False: errno says why.
  bool open(bool sandbox) { return teller_.open(sandbox); }
  // Readable when they have ended: then on_readable(). -1 without the child.
  int fd() const { return teller_.fd(); }
  void on_readable();
  // The device, whose servers alone are told from now on.
  void confine(uint32_t interface_index) { teller_.confine(interface_index); }

  struct Servers {
    std::vector<Ipv4Address> addresses;  // empty: none
    bool for_all = false;                // the tunnel is the default route: for every name
    friend bool operator==(const Servers&, const Servers&) = default;
  };
  // These are to be the device's. Goes there in its own time, and where a program has failed,
  // begins anew.
  void want(const std::string& device, Servers servers);
  // Takes back what the resolver was told, and waits until that is done: where programs hang, for
  // two seconds each, of which there may be four. What could not be taken back stays journalled.
  void withdraw();
  // The same of what an earlier run has told. False: it may still be told.
  bool undo(DnsTool tool, const std::string& device);

  // What the resolver has accepted.
  const std::vector<Ipv4Address>& accepted() const { return accepted_.addresses; }
  // Why it does not have what is wanted, as a sentence; empty: it has, or is being told.
  const std::string& problem() const { return problem_; }

 private:
  enum class Step : uint8_t { idle, telling, untelling };
  // Where the resolver keeps what it was told.
  struct Place {
    DnsTool tool;
    std::string device;
    friend bool operator==(const Place&, const Place&) = default;
  };

  void begin();
  void tell();
  void untell();
  void ask(const DnsRequest& request);
  void on_ended(bool well);
  void on_told(bool well);
  void forget(std::optional<Place>& place);
  void fail(std::string problem);

  const Log& log_;
  UndoJournal& journal_;
  DnsTeller teller_;
  Step step_ = Step::idle;
  std::string device_;
  Servers wanted_;
  Servers tried_;  // that were gone for last
  Servers accepted_;
  std::optional<Place> place_;   // journalled; none: the resolver has been told nothing
  std::optional<Place> former_;  // journalled; to be taken back
  bool was_for_all_ = false;     // what place_ has been told may have been for every name
  std::string problem_;
  std::string logged_problem_;  // so that one that stays is logged once
};

}  // namespace adit::client
