// scripts/bench micro: what the parts cost by themselves, warm, by Google Benchmark.
#include <benchmark/benchmark.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>

#include <array>
#include <bit>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <vector>

#include "gateway/crypto.h"
#include "gateway/eal.h"
#include "gateway/tunnel_hand.h"
#include "gateway/huge_memory.h"
#include "lib/dhcp/message.h"
#include "lib/nat/nat.h"
#include "lib/nat/translate.h"
#include "lib/net/checksum.h"
#include "lib/net/parse.h"
#include "lib/tunnel/cookie.h"
#include "lib/tunnel/noise.h"
#include "lib/tunnel/seal.h"
#include "tests/support/packets.h"
#include "tests/unit/tunnel/samples.h"

namespace adit::bench {
namespace {

using nat::Protocol;
using tunnel::Protection;

constexpr Endpoint kRemote{Ipv4Address::from_octets(40, 1, 1, 10), Be16::from_host(6600)};
constexpr Endpoint kInner{Ipv4Address::from_octets(10, 0, 0, 1), Be16::from_host(2000)};
constexpr uint32_t kNow_s = 1000;

test::Bytes packet_of(unsigned bytes) {
  return test::udp_packet(kInner, kRemote, test::payload_bytes(bytes - 28));
}

// ---- Headers ----

void parse(benchmark::State& state) {
  const test::Bytes packet = packet_of(64);
  ParsedIpv4 parsed;
  for (auto _ : state) {
    benchmark::DoNotOptimize(parse_ipv4(packet, HeaderChecksum::verify, parsed));
    benchmark::DoNotOptimize(parsed);
  }
}
BENCHMARK(parse);

void checksum_from_scratch(benchmark::State& state) {
  const test::Bytes bytes = test::payload_bytes(static_cast<size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(internet_checksum(bytes));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(checksum_from_scratch)->Arg(20)->Arg(64)->Arg(1420);

void translate(benchmark::State& state) {
  test::Bytes packet = packet_of(64);
  ParsedIpv4 parsed;
  parse_ipv4(packet, HeaderChecksum::verify, parsed);
  nat::Mapping mapping;
  nat::bind_endpoints(mapping, kInner, {Ipv4Address::from_octets(51, 0, 0, 1), kRemote.port});
  for (auto _ : state) {
    nat::translate_outbound(packet.data(), parsed, mapping);
    nat::translate_inbound(packet.data(), parsed, mapping);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(2 * state.iterations());
}
BENCHMARK(translate);

// ---- Lookups: `flows` of them, 16 a subscriber, in random order ----

struct Translator {
  explicit Translator(uint32_t flows) : subscribers(flows / 16) {
    nat::Settings settings;
    for (uint32_t i = 0; i <= subscribers.size() / 1000; ++i) {
      settings.pool.push_back(Ipv4Address::from_host((51u << 24) + i));
    }
    settings.profiles[0].limits = {.mappings = 65535,
                                   .new_mappings_per_second = 1'000'000,
                                   .new_mappings_burst = 1'000'000};
    memory = gateway::HugeMemory(nat::Nat::memory_bytes(settings));
    nat = std::make_unique<nat::Nat>(settings, memory.span(), [this] { return random(); });
    for (uint32_t i = 0; i < subscribers.size(); ++i) nat->attach(subscribers[i], i, 0, kNow_s);
    for (uint32_t flow = 0; flow < flows; ++flow) {
      nat::Refusal refusal{};
      const nat::Mapping* mapping = nat->create_outbound(
          subscribers[flow / 16], Protocol::udp, internal(flow), kNow_s, refusal);
      if (mapping == nullptr) throw std::runtime_error("no mapping");
      externals.push_back(mapping->external);
    }
    order.resize(1 << 14);
    for (uint32_t& flow : order) flow = static_cast<uint32_t>(random() % flows);
  }
  static Endpoint internal(uint32_t flow) {
    return {Ipv4Address::from_host((10u << 24) + flow / 16),
            Be16::from_host(static_cast<uint16_t>(2000 + flow % 16))};
  }

  std::mt19937_64 random{7};
  gateway::HugeMemory memory;
  std::vector<nat::Subscriber> subscribers;
  std::unique_ptr<nat::Nat> nat;
  std::vector<Endpoint> externals;
  std::vector<uint32_t> order;
};

void find_outbound(benchmark::State& state) {
  Translator translator(static_cast<uint32_t>(state.range(0)));
  size_t i = 0;
  for (auto _ : state) {
    const uint32_t flow = translator.order[i++ % translator.order.size()];
    const nat::Mapping* mapping = translator.nat->find_outbound(
        translator.subscribers[flow / 16], Protocol::udp, Translator::internal(flow), kNow_s);
    if (mapping == nullptr || mapping->external != translator.externals[flow]) {
      return state.SkipWithError("not found");
    }
  }
}
BENCHMARK(find_outbound)->Arg(1'024)->Arg(65'536)->Arg(1'048'576);

void find_inbound(benchmark::State& state) {
  Translator translator(static_cast<uint32_t>(state.range(0)));
  size_t i = 0;
  for (auto _ : state) {
    const uint32_t flow = translator.order[i++ % translator.order.size()];
    const Endpoint& external = translator.externals[flow];
    const nat::Mapping* mapping =
        translator.nat->find_inbound(external.address, Protocol::udp, external.port, kNow_s);
    if (mapping == nullptr || mapping->tunnel_slot != flow / 16) {
      return state.SkipWithError("not found");
    }
  }
}
BENCHMARK(find_inbound)->Arg(1'024)->Arg(65'536)->Arg(1'048'576);

// What a hash table of internal endpoints would cost in the block's place.
void rte_hash_outbound(benchmark::State& state) {
  struct Key {
    uint32_t subscriber;
    Endpoint internal;
    uint16_t zero = 0;
  };
  const auto flows = static_cast<uint32_t>(state.range(0));
  rte_hash_parameters parameters{};
  parameters.name = "micro";
  parameters.entries = flows + flows / 4;
  parameters.key_len = sizeof(Key);
  parameters.hash_func = rte_hash_crc;
  parameters.socket_id = -1;
  const std::unique_ptr<rte_hash, void (*)(rte_hash*)> hash(rte_hash_create(&parameters),
                                                             rte_hash_free);
  if (!hash) return state.SkipWithError("no memory for rte_hash");
  std::vector<nat::Mapping> mappings(flows);
  const auto key_of = [](uint32_t flow) { return Key{flow / 16, Translator::internal(flow)}; };
  for (uint32_t flow = 0; flow < flows; ++flow) {
    const Key key = key_of(flow);
    mappings[flow].tunnel_slot = flow;
    void* data = &mappings[flow];
    if (rte_hash_add_key_data(hash.get(), &key, data) != 0) return state.SkipWithError("full");
  }
  std::mt19937 random{7};
  std::vector<uint32_t> order(1 << 14);
  for (uint32_t& flow : order) flow = static_cast<uint32_t>(random() % flows);
  size_t i = 0;
  for (auto _ : state) {
    const uint32_t flow = order[i++ % order.size()];
    const Key key = key_of(flow);
    void* data = nullptr;
    if (rte_hash_lookup_data(hash.get(), &key, &data) < 0 ||
        static_cast<const nat::Mapping*>(data)->tunnel_slot != flow) {
      return state.SkipWithError("not found");
    }
  }
}
BENCHMARK(rte_hash_outbound)->Arg(1'024)->Arg(65'536)->Arg(1'048'576);

// ---- Protection ----

tunnel::Session session_of(Protection protection) {
  tunnel::Session session;
  session.protection = protection;
  session.local_index = 1;
  session.send_key.fill(7);
  session.receive_key.fill(7);  // so that it opens what it has sealed
  return session;
}

// Range 0 is the text's bytes, range 1 the protection.
void set_counters(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations());
  state.SetBytesProcessed(state.iterations() * state.range(0));
  state.SetLabel(tunnel::protection_name(static_cast<Protection>(state.range(1))));
}

// What the gateway does to a packet for a tunnel: header, cipher and tag. (A plain one's header is
// part of the rewriting, which `datapath` shows.)
void encapsulate(benchmark::State& state) {
  gateway::Crypto crypto(16);
  const tunnel::Session session = session_of(static_cast<Protection>(state.range(1)));
  const auto bytes = static_cast<unsigned>(state.range(0));
  std::vector<uint8_t> packet(bytes + tunnel::kEncryptedOverheadBytes);
  uint64_t counter = 0;
  for (auto _ : state) {
    crypto.seal(session, counter++, packet.data(), bytes);
    benchmark::DoNotOptimize(packet.data());
    benchmark::ClobberMemory();
  }
  set_counters(state);
}
BENCHMARK(encapsulate)->ArgsProduct({{64, 1420}, {1, 2}});

// The same of so many packets at a time (range 2).
void encapsulate_burst(benchmark::State& state) {
  gateway::Crypto crypto(16);
  const tunnel::Session session = session_of(static_cast<Protection>(state.range(1)));
  const auto bytes = static_cast<unsigned>(state.range(0));
  std::vector<std::vector<uint8_t>> packets(static_cast<size_t>(state.range(2)));
  std::vector<gateway::CryptoJob> jobs;
  for (std::vector<uint8_t>& packet : packets) {
    packet.resize(bytes + tunnel::kEncryptedOverheadBytes);
    jobs.push_back({.session = &session, .packet = packet.data(), .text_bytes = bytes});
  }
  uint64_t counter = 0;
  for (auto _ : state) {
    for (gateway::CryptoJob& job : jobs) job.counter = counter++;
    crypto.seal(jobs);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * state.range(2));
  state.SetBytesProcessed(state.iterations() * state.range(2) * state.range(0));
  state.SetLabel(tunnel::protection_name(static_cast<Protection>(state.range(1))));
}
BENCHMARK(encapsulate_burst)->ArgsProduct({{16, 64, 256}, {1, 2}, {8, 64}});

// And to one from a tunnel, a copy of the same each time, for it is opened in place.
void decapsulate(benchmark::State& state) {
  gateway::Crypto crypto(16);
  const tunnel::Session session = session_of(static_cast<Protection>(state.range(1)));
  const auto bytes = static_cast<unsigned>(state.range(0));
  std::vector<uint8_t> sealed(bytes + tunnel::kEncryptedOverheadBytes);
  crypto.seal(session, 1, sealed.data(), bytes);
  std::vector<uint8_t> packet(sealed.size());
  for (auto _ : state) {
    std::memcpy(packet.data(), sealed.data(), sealed.size());
    if (!crypto.open(session, packet.data(), static_cast<unsigned>(packet.size()))) {
      return state.SkipWithError("not authentic");
    }
  }
  set_counters(state);
}
BENCHMARK(decapsulate)->ArgsProduct({{64, 1420}, {1, 2}});

// The client's ciphers, of libsodium and libcrypto: sealed and opened.
void aead(benchmark::State& state) {
  const tunnel::Session session = session_of(static_cast<Protection>(state.range(1)));
  tunnel::Aead send(session.protection, session.send_key);
  tunnel::Aead receive(session.protection, session.receive_key);
  const auto bytes = static_cast<size_t>(state.range(0));
  std::vector<uint8_t> packet(bytes + tunnel::kEncryptedOverheadBytes);
  uint64_t counter = 0;
  for (auto _ : state) {
    send.seal(packet, bytes, session.local_index, counter++);
    if (!receive.open(packet)) return state.SkipWithError("not authentic");
  }
  set_counters(state);
}
BENCHMARK(aead)->ArgsProduct({{64, 1420}, {1, 2}});

// Both ends' part: initiation made and opened, response made and opened.
void handshake(benchmark::State& state) {
  tunnel::test::TwoEnds ends;
  constexpr auto kOffered = tunnel::ProtectionSet{}.with(Protection::aes_256_gcm);
  for (auto _ : state) {
    tunnel::InitiationMessage initiation{};
    tunnel::ResponseMessage response{};
    const auto begun = create_initiation(ends.client, ends.gateway_seen_by_client, 1, kOffered,
                                         tunnel::tai64n_from_unix(1000, 0), ends.random,
                                         initiation);
    const auto opened = open_initiation(ends.gateway, initiation);
    if (!begun || !opened) return state.SkipWithError("no initiation");
    const auto theirs = create_response(*opened, ends.client_seen_by_gateway, 2,
                                        Protection::aes_256_gcm, 77, ends.random, response);
    const auto ours = open_response(ends.client, ends.gateway_seen_by_client, *begun, response, 88);
    if (!theirs || !ours || theirs->send_key != ours->receive_key) {
      return state.SkipWithError("no session");
    }
  }
}
BENCHMARK(handshake);

// What a forged handshake takes at most: its mac1, and a cookie.
void cookie(benchmark::State& state) {
  tunnel::test::TwoEnds ends;
  tunnel::InitiationMessage initiation{};
  create_initiation(ends.client, ends.gateway_seen_by_client, 1, {},
                    tunnel::tai64n_from_unix(1000, 0), ends.random, initiation);
  const auto message = tunnel::test::bytes_in(initiation);
  tunnel::CookieJar(ends.gateway.public_key).stamp(message, 0);
  tunnel::CookieChecker checker(ends.gateway.public_key);
  for (auto _ : state) {
    if (checker.check(message, kRemote, 1, ends.random) !=
        tunnel::CookieChecker::Verdict::mac1_only) {
      return state.SkipWithError("mac1");
    }
    benchmark::DoNotOptimize(checker.make_reply(message, 1, kRemote, 1, ends.random));
  }
}
BENCHMARK(cookie);

// ---- The control thread ----

// A second of its hand, with so many tunnels of which nothing is heard: a core's share of it.
void hand_second(benchmark::State& state) {
  const auto count = static_cast<uint32_t>(state.range(0));
  gateway::TunnelTable tunnels(std::bit_ceil(count + 1));
  gateway::TunnelHand hand(tunnels.slots(), {});
  for (uint32_t slot = 1; slot <= count; ++slot) {
    hand.open(slot);
    hand.at(slot).due_ns = gateway::TunnelHand::kNever;
  }
  uint64_t now_ns = 1'000'000'000;
  uint64_t looks = 0;
  for (auto _ : state) {
    for (unsigned i = 0; i < 1000; ++i) {
      hand.move(now_ns += 1'000'000, tunnels, [&](uint32_t) { ++looks; });
    }
  }
  if (looks != 0) return state.SkipWithError("an idle tunnel was looked at");
}
BENCHMARK(hand_second)->Arg(65'536)->Arg(1'048'576)->Unit(benchmark::kMillisecond);

// ---- DHCP ----

void dhcp_codec(benchmark::State& state) {
  dhcp::Message message;
  message.type = dhcp::MessageType::request;
  message.xid = 0x12345678;
  message.requested_address = kInner.address;
  message.lease_s = 3600;
  std::array<uint8_t, dhcp::kMessageBytesMax> bytes{};
  for (auto _ : state) {
    const size_t written = dhcp::serialize(message, bytes);
    const auto read = dhcp::parse({bytes.data(), written});
    if (!read || read->xid != message.xid) return state.SkipWithError("not the same");
  }
}
BENCHMARK(dhcp_codec);

}  // namespace
}  // namespace adit::bench

int main(int argc, char** argv) {
  const adit::gateway::Eal eal({"micro", "--lcores", "0@0", "--no-huge", "--no-shconf", "-m", "512",
                                "--no-pci", "--no-telemetry", "--log-level", "*:warning"});
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
