#include "gateway/arp.h"

#include <algorithm>
#include <cstring>
#include <iterator>

namespace adit::gateway {
namespace {

inline constexpr uint64_t kRequestPeriodNs = 1'000'000'000;
inline constexpr uint64_t kBelievedNs = 30'000'000'000;  // an answer; then it is asked again
inline constexpr unsigned kRequestsMax = 3;

// A neighbour in use comes back at once by itself; one that is not used any more goes away.
inline constexpr unsigned kConfirmationsMax = 10;

bool may_ask_again(const Arp::Entry& entry) {
  return entry.requests < kRequestsMax && entry.confirmations < kConfirmationsMax;
}

ArpPacket make_packet(uint16_t operation, const MacAddress& sender_mac, Ipv4Address sender,
                      const MacAddress& target_mac, Ipv4Address target) {
  return {Be16::from_host(1),         Be16::from_host(kEtherTypeIpv4), 6, 4,
          Be16::from_host(operation), sender_mac, sender, target_mac, target};
}

}  // namespace

Arp::Arp(std::vector<PortAddresses> ports, size_t entries_max, Sink& sink)
    : ports_(std::move(ports)), entries_max_(entries_max), sink_(sink) {
  for (PortAddresses& port : ports_) std::ranges::sort(port.also, {}, &Ipv4Prefix::address);
}

bool Arp::is_ours(unsigned port, Ipv4Address address) const {
  const PortAddresses& own = ports_[port];
  if (address == own.address.address) return true;
  // The last prefix that begins at the address or before it.
  const auto after = std::ranges::upper_bound(own.also, address, {}, &Ipv4Prefix::address);
  return after != own.also.begin() && std::prev(after)->contains(address);
}

void Arp::announce() {
  for (unsigned port = 0; port < ports_.size(); ++port) {
    const PortAddresses& own = ports_[port];
    // RFC 5227 §2.3: an announcement is a request for one's own address.
    const auto announce_one = [&](Ipv4Address address) {
      sink_.send_arp(port, kBroadcastMac,
                     make_packet(kArpRequest, own.mac, address, MacAddress{}, address));
    };
    announce_one(own.address.address);
    for (const Ipv4Prefix& prefix : own.also) {
      if (prefix.length_bits == 32 && prefix.address != own.address.address) {
        announce_one(prefix.address);
      }
    }
  }
}

void Arp::on_packet(unsigned port, std::span<const uint8_t> bytes, uint64_t now_ns) {
  if (port >= ports_.size() || bytes.size() < sizeof(ArpPacket)) return;
  ArpPacket packet;
  std::memcpy(&packet, bytes.data(), sizeof packet);
  if (packet.hardware_type.host() != 1 || packet.protocol_type.host() != kEtherTypeIpv4 ||
      packet.hardware_bytes != 6 || packet.protocol_bytes != 4 || packet.sender_mac.is_group()) {
    return;
  }
  const PortAddresses& own = ports_[port];
  const bool for_us = is_ours(port, packet.target_address);
  // Only what we follow is learned, and nobody else may claim an address of ours.
  const auto found = entries_.find({port, packet.sender_address});
  if (found != entries_.end() && !is_ours(port, packet.sender_address)) {
    Entry& entry = found->second;
    // A broadcast of somebody's own address updates it too (RFC 826's merge).
    // Told again at every answer, in case the message was lost.
    sink_.neighbour_found(port, packet.sender_address, packet.sender_mac);
    if (entry.requests > 0) ++entry.confirmations;
    if (!entry.resolved && !entry.is_kept) --unresolved_;
    entry.mac = packet.sender_mac;
    entry.resolved = true;
    entry.requests = 0;
    entry.due_ns = now_ns + kBelievedNs;
  }
  if (packet.operation.host() == kArpRequest && for_us &&
      packet.sender_address != packet.target_address) {
    sink_.send_arp(port, packet.sender_mac,
                   make_packet(kArpReply, own.mac, packet.target_address, packet.sender_mac,
                               packet.sender_address));
  }
}

void Arp::resolve(unsigned port, Ipv4Address address, uint64_t now_ns) {
  const Key key{port, address};
  const auto found = entries_.find(key);
  if (found != entries_.end()) {
    if (found->second.resolved) sink_.neighbour_found(port, address, found->second.mac);
    return;
  }
  const bool is_crowded = entries_.size() >= entries_max_ || unresolved_ >= entries_max_ / 4;
  if (port >= ports_.size() || is_crowded || is_ours(port, address)) {
    sink_.neighbour_lost(port, address);
    return;
  }
  ++unresolved_;
  ask(key, entries_[key], now_ns);
}

void Arp::keep(unsigned port, Ipv4Address address, uint64_t now_ns) {
  const Key key{port, address};
  Entry& entry = entries_[key];
  entry.is_kept = true;
  ask(key, entry, now_ns);
}

// Broadcast while unknown; to the neighbour itself when only its answer is old.
void Arp::ask(const Key& key, Entry& entry, uint64_t now_ns) {
  const PortAddresses& own = ports_[key.first];
  ++entry.requests;
  entry.due_ns = now_ns + kRequestPeriodNs;
  next_due_ns_ = std::min(next_due_ns_, entry.due_ns);
  sink_.send_arp(key.first, entry.resolved ? entry.mac : kBroadcastMac,
                 make_packet(kArpRequest, own.mac, own.address.address, MacAddress{}, key.second));
}

void Arp::tick(uint64_t now_ns) {
  if (now_ns < next_due_ns_) return;
  next_due_ns_ = now_ns + kRequestPeriodNs;
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    if (now_ns < entry->second.due_ns) {
      ++entry;
    } else if (entry->second.is_kept || may_ask_again(entry->second)) {
      ask(entry->first, entry->second, now_ns);
      ++entry;
    } else {
      sink_.neighbour_lost(entry->first.first, entry->first.second);
      if (!entry->second.resolved) --unresolved_;
      entry = entries_.erase(entry);
    }
  }
}

}  // namespace adit::gateway
