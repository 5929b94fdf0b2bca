#include "gateway/port.h"

#include <fmt/format.h>
#include <rte_ethdev.h>

#include <stdexcept>

#include "gateway/eal.h"

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

}  // namespace

Port::Port(const PortConfig& config, rte_mempool* pool) : name_(config.name) {
  check(name_, config.device.c_str(),
        rte_eth_dev_get_port_by_name(eal_device_name(config).c_str(), &id_));
  rte_eth_dev_info device{};
  check(name_, "device", rte_eth_dev_info_get(id_, &device));
  driver_ = device.driver_name;

  rte_eth_conf ethernet{};
  ethernet.rxmode.offloads = available(
      RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_VLAN_STRIP * (config.vlan ? 1 : 0),
      device.rx_offload_capa);
  ethernet.txmode.offloads =
      available(RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM |
                    RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE,
                device.tx_offload_capa);
  check(name_, "configure", rte_eth_dev_configure(id_, 1, 1, &ethernet));

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
  check(name_, "receive queue",
        rte_eth_rx_queue_setup(id_, 0, rx_descriptors, numa, nullptr, pool));
  check(name_, "transmit queue", rte_eth_tx_queue_setup(id_, 0, tx_descriptors, numa, nullptr));
  check(name_, "start", rte_eth_dev_start(id_));

  rte_ether_addr mac{};
  check(name_, "Ethernet address", rte_eth_macaddr_get(id_, &mac));
  std::copy(std::begin(mac.addr_bytes), std::end(mac.addr_bytes), view_.mac.bytes.begin());
  view_.address = config.address;
  view_.next_hop = config.next_hop.value_or(Ipv4Address{});
  view_.mtu_bytes = config.mtu;
  view_.vlan = config.vlan.value_or(0);
  view_.checksum_ip_by_port = (ethernet.txmode.offloads & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM) != 0;
  view_.checksum_udp_by_port = (ethernet.txmode.offloads & RTE_ETH_TX_OFFLOAD_UDP_CKSUM) != 0;
}

Port::~Port() {
  rte_eth_dev_stop(id_);
  rte_eth_dev_close(id_);
}

uint64_t Port::missed() const {
  rte_eth_stats stats{};
  if (rte_eth_stats_get(id_, &stats) != 0) return 0;
  return stats.imissed + stats.rx_nombuf;
}

std::string Port::describe() const {
  return fmt::format("port {}: {} {} {} mtu {}{}; checksums by {}", name_, driver_,
                     view_.mac.to_string(), view_.address.to_string(), view_.mtu_bytes,
                     view_.vlan != 0 ? fmt::format(" vlan {}", view_.vlan) : "",
                     view_.checksum_udp_by_port ? "device" : "software");
}

}  // namespace adit::gateway
