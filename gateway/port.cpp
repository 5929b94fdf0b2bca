#include "gateway/port.h"

#include <fmt/format.h>
#include <net/if.h>
#include <rte_ethdev.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <bit>
#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "gateway/eal.h"
#include "gateway/packet_wait.h"

namespace adit::gateway {
namespace {

[[noreturn]] void fail(const std::string& port, const char* what, int error) {
  throw std::runtime_error(fmt::format("port {}: {}: {}", port, what, rte_strerror(-error)));
}

void check(const std::string& port, const char* what, int result) {
  if (result < 0) fail(port, what, result);
}

// Those of `wanted` that the device has.
uint64_t available(uint64_t wanted, uint64_t capable) { return wanted & capable; }

// net_vhost completes checksums in software, and leaves a sum of 0 as it is, which of a UDP packet
// says that there is none (RFC 768); it would know better of packets with a packet_type, which only
// devices that receive set.
uint64_t transmit_offloads(const rte_eth_dev_info& device) {
  uint64_t wanted = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
  const bool is_vhost = std::string_view(device.driver_name) == "net_vhost";
  if (!is_vhost) wanted |= RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
  return available(wanted, device.tx_offload_capa);
}

constexpr uint64_t kHashedByPort =
    RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV4_TCP;
constexpr uint64_t kHashedByFlow =
    kHashedByPort | RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_FRAG_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_OTHER;
constexpr unsigned kKeyBytesMin = 40;

// A device that does not say takes the usual one.
unsigned key_bytes_of(const rte_eth_dev_info& device) {
  return device.hash_key_size == 0 ? kKeyBytesMin : device.hash_key_size;
}

rte_eth_dev_info device_of(const PortConfig& config, uint16_t& id) {
  check(config.name, config.device.c_str(),
        rte_eth_dev_get_port_by_name(eal_device_name(config).c_str(), &id));
  rte_eth_dev_info device{};
  check(config.name, "device", rte_eth_dev_info_get(id, &device));
  return device;
}

// A virtual device's queues lead to a peer, which has to be told of them; a TUN device's are the
// kernel's affair.
unsigned queues_of(const PortConfig& config, const rte_eth_dev_info& device, unsigned workers) {
  const bool has_many = config.is_pci() || std::string_view(device.driver_name) == "net_tap";
  const unsigned wanted = config.queues.value_or(has_many ? workers : 1);
  return std::min<unsigned>({wanted, workers, device.max_rx_queues, device.max_tx_queues});
}

// How a device spreads what no rule is for.
struct Spread {
  std::vector<uint8_t> key;
  uint64_t types = 0;
  std::vector<uint16_t> queues;  // by the lowest bits of the hash

  rte_eth_rss_conf conf() { return {key.data(), static_cast<uint8_t>(key.size()), types}; }
};

Spread spread_of(Port::Steering steering, const rte_eth_dev_info& device,
                 const SteeringPlan& plan) {
  const unsigned key_bytes = key_bytes_of(device);
  if (steering == Port::Steering::by_flow) {
    return {flow_steering_key(key_bytes), available(kHashedByFlow, device.flow_type_rss_offloads),
            even_redirection(plan.workers, device.reta_size)};
  }
  return {port_steering_key(key_bytes), available(kHashedByPort, device.flow_type_rss_offloads),
          port_redirection(plan, device.reta_size)};
}

// Tells the device which queue each hash goes to, and asks it what it has understood.
bool redirect(uint16_t id, Spread spread) {
  const std::vector<uint8_t> key = spread.key;
  const std::vector<uint16_t>& queues = spread.queues;
  rte_eth_rss_conf wanted = spread.conf();
  // Some take the key when they are configured, some now.
  if (rte_eth_dev_rss_hash_update(id, &wanted) != 0) return false;
  std::vector<rte_eth_rss_reta_entry64> table(queues.size() / RTE_ETH_RETA_GROUP_SIZE);
  for (size_t i = 0; i < queues.size(); ++i) {
    auto& group = table[i / RTE_ETH_RETA_GROUP_SIZE];
    group.mask = UINT64_MAX;
    group.reta[i % RTE_ETH_RETA_GROUP_SIZE] = queues[i];
  }
  const auto entries = static_cast<uint16_t>(queues.size());
  if (rte_eth_dev_rss_reta_update(id, table.data(), entries) != 0) return false;
  for (auto& group : table) std::ranges::fill(group.reta, uint16_t{UINT16_MAX});
  if (rte_eth_dev_rss_reta_query(id, table.data(), entries) != 0) return false;
  for (size_t i = 0; i < queues.size(); ++i) {
    if (table[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] != queues[i]) {
      return false;
    }
  }
  std::vector<uint8_t> reported(key.size());
  rte_eth_rss_conf rss{reported.data(), static_cast<uint8_t>(reported.size()), 0};
  return rte_eth_dev_rss_hash_conf_get(id, &rss) == 0 && reported == key &&
         (rss.rss_hf & kHashedByPort) == kHashedByPort;
}

// An interface of the kernel's with no device behind it. Where there is one, the driver may reach
// it without the kernel's help, and nothing is quicker.
bool is_virtual(unsigned interface) {
  std::array<char, IF_NAMESIZE> name{};
  if (if_indextoname(interface, name.data()) == nullptr) return false;
  const std::filesystem::path path = std::filesystem::path("/sys/class/net") / name.data();
  std::error_code ignored;
  return std::filesystem::exists(path, ignored) &&
         !std::filesystem::exists(path / "device", ignored);
}

}  // namespace

unsigned Port::redirection_entries(const PortConfig& config) {
  uint16_t id = 0;
  const rte_eth_dev_info device = device_of(config, id);
  const bool can_hash = (device.flow_type_rss_offloads & kHashedByPort) == kHashedByPort &&
                        key_bytes_of(device) >= kKeyBytesMin &&
                        device.reta_size >= RTE_ETH_RETA_GROUP_SIZE &&
                        queues_of(config, device, kWorkersMax) > 1;
  return can_hash ? std::min<unsigned>(std::bit_floor(device.reta_size), kRedirectionMax) : 0;
}

Port::Port(const PortConfig& config, rte_mempool* pool, Steering wanted, const SteeringPlan& plan,
           const Endpoint& tunnel)
    : name_(config.name), workers_(plan.workers) {
  const rte_eth_dev_info device = device_of(config, id_);
  driver_ = device.driver_name;
  queues_ = queues_of(config, device, plan.workers);
  // A table whose size is no power of two is not indexed by the hash's lowest bits.
  const unsigned entries = redirection_entries(config);
  const bool can_steer = queues_ == plan.workers && plan.workers > 1 && entries != 0 &&
                         entries == device.reta_size;
  if (can_steer) steering_ = wanted;

  rte_eth_conf ethernet{};
  ethernet.rxmode.offloads = available(
      RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_VLAN_STRIP * (config.vlan ? 1 : 0),
      device.rx_offload_capa);
  ethernet.txmode.offloads = transmit_offloads(device);
  Spread spread;
  if (steering_ != Steering::none) {
    spread = spread_of(steering_, device, plan);
    ethernet.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    ethernet.rx_adv_conf.rss_conf = spread.conf();
  }
  const auto queues = static_cast<uint16_t>(queues_);
  check(name_, "configure", rte_eth_dev_configure(id_, queues, queues, &ethernet));

  // Setting it may want privileges that running does not; and a device without a say in its MTU
  // keeps its own.
  uint16_t mtu = 0;
  if (rte_eth_dev_get_mtu(id_, &mtu) != 0 || mtu != config.mtu) {
    const int result = rte_eth_dev_set_mtu(id_, config.mtu);
    if (result < 0 && result != -ENOTSUP) fail(name_, "mtu", result);
  }
  uint16_t rx_descriptors = config.rx_descriptors;
  uint16_t tx_descriptors = config.tx_descriptors;
  check(name_, "descriptors",
        rte_eth_dev_adjust_nb_rx_tx_desc(id_, &rx_descriptors, &tx_descriptors));
  const int socket = rte_eth_dev_socket_id(id_);
  const auto numa = static_cast<unsigned>(socket);
  const std::vector<int> others = xdp_sockets();
  for (uint16_t queue = 0; queue < queues; ++queue) {
    check(name_, "receive queue",
          rte_eth_rx_queue_setup(id_, queue, rx_descriptors, numa, nullptr, pool));
    check(name_, "transmit queue",
          rte_eth_tx_queue_setup(id_, queue, tx_descriptors, numa, nullptr));
  }
  check(name_, "start", rte_eth_dev_start(id_));
  view_.vlan = config.vlan.value_or(0);
  if (steering_ == Steering::by_rules && !install_rules(tunnel, key_bytes_of(device))) {
    steering_ = Steering::by_flow;
    spread = spread_of(steering_, device, plan);
  }
  if (steering_ != Steering::none && !redirect(id_, spread)) {
    // What it does is not what we ask for; every packet finds its worker all the same.
    steering_ = Steering::none;
    rules_.clear();
  }

  rte_ether_addr mac{};
  check(name_, "Ethernet address", rte_eth_macaddr_get(id_, &mac));
  std::copy(std::begin(mac.addr_bytes), std::end(mac.addr_bytes), view_.mac.bytes.begin());
  view_.address = config.address;
  view_.next_hop = config.next_hop.value_or(Ipv4Address{});
  view_.mtu_bytes = config.mtu;
  view_.checksum_ip_by_port = (ethernet.txmode.offloads & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM) != 0;
  view_.checksum_udp_by_port = (ethernet.txmode.offloads & RTE_ETH_TX_OFFLOAD_UDP_CKSUM) != 0;
  find_sockets(device.if_index, others);
  if (driver_ == "net_af_xdp" && is_virtual(device.if_index)) open_senders(device.if_index);
}

// `others` are XDP sockets, but not this port's.
void Port::find_sockets(unsigned interface, const std::vector<int>& others) {
  if (driver_ == "net_af_packet") sockets_ = packet_sockets(interface);
  if (driver_ == "net_af_xdp") {
    std::ranges::set_difference(xdp_sockets(), others, std::back_inserter(sockets_));
  }
  if (sockets_.size() != queues_) sockets_.clear();
}

// For every queue, or for none.
void Port::open_senders(unsigned interface) {
  for (unsigned queue = 0; queue < queues_; ++queue) {
    std::string refusal;
    senders_.push_back(KernelSender::open(interface, refusal));
    if (senders_.back() == nullptr) {
      spdlog::info("port {}: the driver sends all by itself: {}", name_, refusal);
      return senders_.clear();
    }
  }
  view_.checksum_udp_by_port = true;
}

// Of the two ways the first that the device takes.
bool Port::install_rules(const Endpoint& tunnel, unsigned key_bytes) {
  return rules_.install(id_, hash_rules(tunnel, view_.vlan, workers_, key_bytes)) ||
         rules_.install(id_, source_port_rules(tunnel, view_.vlan, workers_));
}

Port::~Port() {
  rules_.clear();
  rte_eth_dev_stop(id_);
  rte_eth_dev_close(id_);
}

uint64_t Port::missed() const {
  rte_eth_stats stats{};
  if (rte_eth_stats_get(id_, &stats) != 0) return 0;
  return stats.imissed + stats.rx_nombuf;
}

std::string Port::describe() const {
  return fmt::format("port {}: {} {} {} mtu {}{}; checksums by {}{}", name_, driver_,
                     view_.mac.to_string(), view_.address.to_string(), view_.mtu_bytes,
                     view_.vlan != 0 ? fmt::format(" vlan {}", view_.vlan) : "",
                     !view_.checksum_udp_by_port ? "software"
                     : senders_.empty()          ? "device"
                                                 : "kernel",
                     steering_text());
}

std::string Port::steering_text() const {
  if (workers_ == 1) return "";
  switch (steering_) {
    case Steering::by_flow:
      return "; a tunnel's packets to one worker by the device's hash" +
             (rules_.refusal().empty()
                  ? ""
                  : "; replies are handed over (no flow rules: " + rules_.refusal() + ")");
    case Steering::by_port:
      return "; replies to their worker by destination port";
    case Steering::by_rules:
      return "; replies to their worker by destination port; a tunnel's packets to one worker by " +
             (rules_.refusal().empty()
                  ? "a flow rule and the device's hash"
                  : fmt::format("{} flow rules for their source port (no rule with a hash: {})",
                                rules_.count(), rules_.refusal()));
    case Steering::none:
      break;
  }
  if (queues_ == workers_) {
    return fmt::format("; {} queues, filled as the device chooses: workers hand over", queues_);
  }
  return fmt::format("; {} of {} workers receive and send, and hand over", queues_, workers_);
}

}  // namespace adit::gateway
