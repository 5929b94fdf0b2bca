// The client and the server against each other, each message through its packet, on a simulated
// clock:
//
//     Site 1 (Client) ══ wrap ══ link: delay, may be cut ══ unwrap ══ Gateway (Server)
//     Site 2 (Client) ══════════════════════════════════════════════┘
#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <random>

#include "lib/dhcp/client.h"
#include "lib/dhcp/server.h"
#include "tests/unit/dhcp/messages.h"

namespace adit::dhcp {
namespace {

using Event = Client::Event;

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kDelayNs = 20'000'000;  // one way

PoolConfig make_pool(std::string_view network, std::string_view router, std::string_view first,
                     std::string_view last) {
  PoolConfig pool;
  pool.name = network;
  pool.network = prefix(network);
  pool.router = address(router);
  pool.first = address(first);
  pool.last = address(last);
  pool.lease_s = 1000;
  pool.dns = {address("9.9.9.9")};
  pool.routes = {{prefix("40.1.1.10/32"), pool.router}};
  pool.mtu_bytes = 1420;
  pool.heartbeat_s = 25;
  return pool;
}

// A client and what it told its owner.
struct Site {
  explicit Site(uint32_t number)
      : key(key_of(number)), random(number), client(key, [this] { return random(); }) {}

  unsigned count(Event event) const {
    return static_cast<unsigned>(std::ranges::count(events, event));
  }

  ClientKey key;
  Assignment assignment;
  std::mt19937_64 random;
  Client client;
  std::vector<Event> events;
  std::string text;
};

class DhcpConversation : public testing::Test {
 protected:
  Site& add_site(const Assignment& assignment = {}) {
    sites.push_back(std::make_unique<Site>(static_cast<uint32_t>(sites.size() + 1)));
    sites.back()->assignment = assignment;
    return *sites.back();
  }
  void start(Site& site, std::optional<Ipv4Address> previous = std::nullopt) {
    apply(site, site.client.start(now_ns, previous));
  }
  void release(Site& site) { apply(site, site.client.release(now_ns)); }

  void run_for(uint64_t seconds) {
    const uint64_t end_ns = now_ns + seconds * kSecond;
    while (true) {
      uint64_t next_ns = end_ns;
      for (const auto& site : sites) next_ns = std::min(next_ns, site->client.next_deadline_ns());
      if (!in_flight.empty()) next_ns = std::min(next_ns, in_flight.front().arrives_ns);
      now_ns = std::max(now_ns, next_ns);
      if (now_ns >= end_ns) break;
      deliver();
      for (const auto& site : sites) apply(*site, site->client.tick(now_ns));
      std::array<ExpiredLease, 16> expired;
      expiries += server->tick(now_ns, expired);
    }
  }

  struct Flight {
    uint64_t arrives_ns;
    Site* site;
    bool to_server;
    Octets packet;
  };

  void apply(Site& site, const Client::Step& step) {
    if (step.event != Event::none) site.events.push_back(step.event);
    if (!step.text.empty()) site.text.assign(step.text.begin(), step.text.end());
    if (step.send) send(site, *step.send, true);
  }
  void send(Site& site, const Datagram& datagram, bool to_server) {
    ++packets;
    if (is_cut) return;
    Octets packet(kPacketBytesMax);
    packet.resize(wrap(datagram, packet));
    ASSERT_FALSE(packet.empty());
    in_flight.push_back({now_ns + kDelayNs, &site, to_server, packet});
  }
  void deliver() {
    while (!in_flight.empty() && in_flight.front().arrives_ns <= now_ns) {
      const Flight flight = in_flight.front();
      in_flight.pop_front();
      const auto datagram = unwrap(flight.packet);
      ASSERT_TRUE(datagram);
      if (flight.to_server) {
        const Outcome outcome = server->on_message(now_ns, flight.site->key,
                                                   flight.site->assignment, datagram->message);
        if (outcome.reply) send(*flight.site, *outcome.reply, false);
      } else {
        apply(*flight.site, flight.site->client.on_message(now_ns, datagram->message));
      }
    }
  }
  Ipv4Address address_of(const Site& site) const {
    return site.client.lease() ? site.client.lease()->address.address : Ipv4Address{};
  }

  const std::vector<PoolConfig> pools = {
      make_pool("192.168.1.0/24", "192.168.1.1", "192.168.1.10", "192.168.1.11"),
      make_pool("10.9.0.0/16", "10.9.0.1", "10.9.0.2", "10.9.0.9")};
  std::unique_ptr<Server> server = std::make_unique<Server>(pools);
  std::vector<std::unique_ptr<Site>> sites;
  std::deque<Flight> in_flight;  // the delay is constant, so in the order of arrival
  uint64_t now_ns = 77 * kSecond;
  bool is_cut = false;
  unsigned packets = 0;
  size_t expiries = 0;
};

TEST_F(DhcpConversation, LeasesAnAddressWithTwoPackets) {
  Site& site = add_site();
  start(site);
  run_for(1);
  EXPECT_EQ(packets, 2u);
  EXPECT_EQ(site.events, std::vector{Event::configured});
  const ClientLease& lease = *site.client.lease();
  EXPECT_EQ(lease.address, *Ipv4Interface::parse("192.168.1.10/24"));
  EXPECT_EQ(lease.router, address("192.168.1.1"));
  EXPECT_EQ(lease.mtu_bytes, 1420);
  EXPECT_EQ(lease.heartbeat_s, 25);
  EXPECT_EQ(lease.routes[0], (Route{prefix("40.1.1.10/32"), address("192.168.1.1")}));
  EXPECT_LE(lease.expires_ns, server->lookup(site.key)->expires_ns)
      << "the client never believes in its lease for longer than the server";
}

TEST_F(DhcpConversation, RenewsAtT1ForADay) {
  Site& site = add_site();
  start(site);
  run_for(86'400);
  EXPECT_EQ(site.events, std::vector(site.events.size(), Event::configured));
  // One exchange each 500 s, and the delays in between.
  EXPECT_GE(site.events.size(), 172u);
  EXPECT_LE(site.events.size(), 173u);
  EXPECT_EQ(packets, 2 * site.events.size());
  EXPECT_EQ(expiries, 0u);
}

TEST_F(DhcpConversation, LosesTheLeaseWhenTheServerFallsSilentAndGetsItBack) {
  Site& site = add_site();
  start(site);
  run_for(1);
  is_cut = true;
  run_for(498);
  EXPECT_EQ(site.client.state(), Client::State::bound);
  run_for(2);
  EXPECT_EQ(site.client.state(), Client::State::renewing);
  run_for(376);
  EXPECT_EQ(site.client.state(), Client::State::rebinding);
  EXPECT_EQ(site.count(Event::lost), 0u);
  run_for(124);
  EXPECT_EQ(site.count(Event::lost), 1u);
  EXPECT_EQ(expiries, 1u) << "the server, too";
  is_cut = false;
  run_for(18);
  EXPECT_EQ(site.events, (std::vector{Event::configured, Event::lost, Event::configured}));
  EXPECT_EQ(address_of(site), address("192.168.1.10"));
}

TEST_F(DhcpConversation, RebindsBeforeTheEndWhenTheServerComesBackAfterT2) {
  Site& site = add_site();
  start(site);
  run_for(1);
  is_cut = true;
  run_for(890);
  is_cut = false;
  run_for(100);
  EXPECT_EQ(site.client.state(), Client::State::bound);
  EXPECT_EQ(site.count(Event::lost), 0u);
}

TEST_F(DhcpConversation, ReleasesAtTheEndAndGetsTheSameAddressAgain) {
  Site& first = add_site();
  Site& second = add_site();
  start(first);
  run_for(1);
  start(second);
  run_for(1);
  EXPECT_EQ(address_of(second), address("192.168.1.11"));
  release(second);
  run_for(1);
  EXPECT_FALSE(server->lookup(second.key));
  EXPECT_EQ(server->use(0).released, 1u);
  release(first);
  run_for(1);
  start(second, address("192.168.1.11"));
  run_for(1);
  EXPECT_EQ(address_of(second), address("192.168.1.11"));
  start(first);
  run_for(1);
  EXPECT_EQ(address_of(first), address("192.168.1.10")) << "without naming it";
}

TEST_F(DhcpConversation, TellsTheClientThatThePoolIsExhaustedAndServesItLater) {
  Site& first = add_site();
  Site& second = add_site();
  Site& third = add_site();
  for (Site* site : {&first, &second, &third}) {
    start(*site);
    run_for(1);
  }
  run_for(60);
  EXPECT_EQ(third.text, "address pool exhausted");
  EXPECT_EQ(third.count(Event::refused), third.events.size());
  EXPECT_GE(third.events.size(), 4u);
  EXPECT_LE(third.events.size(), 9u) << "it does not hammer";
  EXPECT_EQ(server->counters().exhausted, third.events.size());
  server->release(first.key);  // its tunnel aged out
  run_for(18);
  EXPECT_EQ(address_of(third), address("192.168.1.10"));
}

TEST_F(DhcpConversation, ServesTwoPoolsAndAFixedAddress) {
  Site& home = add_site();
  Site& office = add_site({.pool = 1, .fixed = {}});
  Site& fixed = add_site({.pool = 1, .fixed = address("10.9.7.7")});
  for (Site* site : {&home, &office, &fixed}) start(*site);
  run_for(2000);
  EXPECT_EQ(address_of(home), address("192.168.1.10"));
  EXPECT_EQ(address_of(office), address("10.9.0.2"));
  EXPECT_EQ(address_of(fixed), address("10.9.7.7"));
  EXPECT_EQ(fixed.client.lease()->address.length_bits, 16);
  for (const auto& site : sites) EXPECT_EQ(site->count(Event::configured), site->events.size());
}

TEST_F(DhcpConversation, KeepsTheAddressAcrossARestartOfTheGateway) {
  Site& first = add_site();
  Site& second = add_site();
  start(first);
  run_for(1);
  start(second);
  run_for(1);
  server = std::make_unique<Server>(pools);  // it remembers nothing
  start(second, address_of(second));         // in a new tunnel
  run_for(5);
  EXPECT_EQ(address_of(second), address("192.168.1.11"));
  start(first, address("192.168.1.10"));
  run_for(5);
  EXPECT_EQ(address_of(first), address("192.168.1.10"));
}

TEST_F(DhcpConversation, MovesAClientToItsNewPoolWhenItComesBack) {
  Site& site = add_site();
  start(site);
  run_for(1);
  site.assignment.pool = 1;
  start(site, address("192.168.1.10"));
  run_for(1);
  EXPECT_EQ(address_of(site), address("10.9.0.2"));
  EXPECT_EQ(site.count(Event::refused), 0u);
}

TEST_F(DhcpConversation, ComesUpOverALinkThatLosesHalfOfItsPackets) {
  std::mt19937_64 losses(3);
  Site& site = add_site({.pool = 1, .fixed = {}});
  start(site);
  for (unsigned second = 0; second < 50'000; ++second) {
    is_cut = losses() % 2 == 0;
    run_for(1);
  }
  EXPECT_GT(site.count(Event::configured), 50u);
  EXPECT_EQ(address_of(site), address("10.9.0.2"));
}

}  // namespace
}  // namespace adit::dhcp
