// wg-probe: our side of the tunnel on a bare UDP socket, to try it against a real wireguard-go.
//
//   wg-probe initiate --endpoint IP:PORT  ...   handshakes, then sends an inner ICMP echo and waits
//                                               for the answer of the far kernel
//   wg-probe respond  --listen PORT  ...        answers a handshake, then the first inner ICMP echo
//
// Exit 0 when the echo was answered, 1 when it was not in time, 2 when the command line is wrong.
// `respond --record` prints what a unit test needs to replay the conversation: the randomness it
// drew and every packet it received, in hexadecimal.
#include <arpa/inet.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>

#include "lib/net/checksum.h"
#include "lib/net/headers.h"
#include "lib/net/parse.h"
#include "tests/support/tunnel_end.h"

namespace adit::tunnel::test {
namespace {

struct Options {
  std::string endpoint;
  uint16_t listen_port = 0;
  std::string private_key_file;
  std::string peer_public_key;
  std::string psk_file;
  std::string inner_source = "10.9.0.2";
  std::string inner_destination = "10.9.0.1";
  unsigned timeout_s = 10;
  bool record = false;
};

[[noreturn]] void refuse(const std::string& why) {
  std::cerr << "wg-probe: " << why << '\n';
  std::exit(2);
}

void print_hex(const char* label, std::span<const uint8_t> bytes) {
  std::printf("%s ", label);
  for (const uint8_t byte : bytes) std::printf("%02x", byte);
  std::printf("\n");
}

uint64_t clock_ns(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * kSecondNs + static_cast<uint64_t>(now.tv_nsec);
}
uint64_t now_ns() {
  return clock_ns(CLOCK_BOOTTIME);
}
Tai64n stamp() {
  const uint64_t wall_ns = clock_ns(CLOCK_REALTIME);
  return tai64n_from_unix(wall_ns / kSecondNs, static_cast<uint32_t>(wall_ns % kSecondNs));
}

std::array<uint8_t, 32> key_in(const std::string& base64, const std::string& what) {
  const auto key = from_base64(base64);
  if (!key) refuse(what + " is not a key");
  return *key;
}
std::array<uint8_t, 32> key_in_file(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return key_in(line, path);
}
Ipv4Address address_in(const std::string& text) {
  const auto address = Ipv4Address::parse(text);
  if (!address) refuse("'" + text + "' is not an IPv4 address");
  return *address;
}

sockaddr_in socket_address(const Endpoint& endpoint) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = endpoint.address.value.raw();
  address.sin_port = endpoint.port.raw();
  return address;
}

// An inner ICMP echo, `type` request or reply.
Bytes echo(uint8_t type, Ipv4Address source, Ipv4Address destination,
           std::span<const uint8_t> after_checksum) {
  constexpr size_t kIcmpFixedBytes = 4;  // type, code, checksum
  Bytes packet(sizeof(Ipv4Header) + kIcmpFixedBytes + after_checksum.size());
  Ipv4Header ip{};
  ip.version_ihl = 0x45;
  ip.total_bytes = Be16::from_host(static_cast<uint16_t>(packet.size()));
  ip.ttl = 64;
  ip.protocol = kIpIcmp;
  ip.source = source;
  ip.destination = destination;
  ip.checksum = internet_checksum({reinterpret_cast<const uint8_t*>(&ip), sizeof(ip)});
  std::memcpy(packet.data(), &ip, sizeof(ip));
  const auto icmp = std::span(packet).subspan(sizeof(ip));
  icmp[0] = type;
  std::copy(after_checksum.begin(), after_checksum.end(), icmp.begin() + kIcmpFixedBytes);
  const Be16 checksum = internet_checksum(icmp);
  std::memcpy(icmp.data() + 2, &checksum, sizeof(checksum));
  return packet;
}

// If `packet` is an ICMP message of `type`: what follows its checksum.
std::optional<Bytes> echo_in(const Bytes& packet, uint8_t type) {
  ParsedIpv4 parsed;
  if (parse_ipv4(packet, HeaderChecksum::verify, parsed) != ParseError::none) return std::nullopt;
  if (parsed.protocol != kIpIcmp || packet[parsed.header_bytes] != type) return std::nullopt;
  return Bytes(packet.begin() + parsed.header_bytes + 4, packet.begin() + parsed.total_bytes);
}

class Probe {
 public:
  Probe(const Options& options, bool initiates)
      : options_(options),
        local_(make_identity({key_in_file(options.private_key_file)})),
        socket_(::socket(AF_INET, SOCK_DGRAM, 0)) {
    const PublicKey remote_key{key_in(options.peer_public_key, "--peer-public-key")};
    PresharedKey preshared;
    if (!options.psk_file.empty()) preshared.bytes = key_in_file(options.psk_file);
    const auto remote = make_remote_identity(local_, remote_key, preshared);
    if (!remote) refuse("--peer-public-key is of low order");
    PeerConfig config;
    config.initiates = initiates;
    // A stock peer drops a handshake message whose reserved bytes are not zero: offer nothing.
    if (!initiates) config.allowed = config.allowed.with(Protection::chacha20_poly1305);
    end_.emplace(local_, *remote, config, random_);
    end_->transmit = [this](Bytes packet) { transmit(packet); };
    Endpoint own{};
    own.port = Be16::from_host(options.listen_port);
    const sockaddr_in address = socket_address(own);
    if (::bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      refuse("cannot bind the port");
    }
  }
  ~Probe() { ::close(socket_); }

  bool initiate() {
    const auto endpoint = Endpoint::parse(options_.endpoint);
    if (!endpoint) refuse("--endpoint is not IP:PORT");
    remote_ = socket_address(*endpoint);
    end_->carry_out(now_ns(), end_->peer.connect(now_ns(), stamp()));
    if (!run([this] { return end_->peer.has_session(now_ns()); })) return failed("no handshake");
    const Bytes identity{0x0a, 0xd1, 0x00, 0x01, 'a', 'd', 'i', 't'};
    end_->send(now_ns(), echo(kIcmpEchoRequest, address_in(options_.inner_source),
                              address_in(options_.inner_destination), identity));
    const bool answered = run([&] {
      for (const Bytes& packet : end_->received) {
        if (echo_in(packet, kIcmpEchoReply) == identity) return true;
      }
      return false;
    });
    return answered || failed("no answer to the echo");
  }

  bool respond() {
    std::printf("wg-probe: listening\n");
    std::fflush(stdout);
    size_t looked_at = 0;
    const bool answered = run([&] {
      for (; looked_at < end_->received.size(); ++looked_at) {
        const Bytes& packet = end_->received[looked_at];
        const auto request = echo_in(packet, kIcmpEchoRequest);
        if (!request) continue;
        Ipv4Header ip;
        std::memcpy(&ip, packet.data(), sizeof(ip));
        end_->send(now_ns(), echo(kIcmpEchoReply, ip.destination, ip.source, *request));
        return true;
      }
      return false;
    });
    return answered || failed(end_->sessions_installed == 0 ? "no handshake" : "no echo");
  }

 private:
  bool failed(const char* why) const {
    std::fprintf(stderr, "wg-probe: %s; last refusal: %s\n", why,
                 handshake_reject_name(end_->last_reject));
    return false;
  }

  void transmit(const Bytes& packet) {
    ::sendto(socket_, packet.data(), packet.size(), 0, reinterpret_cast<const sockaddr*>(&remote_),
             sizeof(remote_));
  }

  // Receives and ticks until `done` or the time is up.
  bool run(const std::function<bool()>& done) {
    const uint64_t end_ns = now_ns() + options_.timeout_s * kSecondNs;
    while (!done()) {
      if (now_ns() >= end_ns) return false;
      pollfd waiting{socket_, POLLIN, 0};
      ::poll(&waiting, 1, 20);
      Bytes packet(2048);
      socklen_t address_bytes = sizeof(remote_);
      const ssize_t length = ::recvfrom(socket_, packet.data(), packet.size(), MSG_DONTWAIT,
                                        reinterpret_cast<sockaddr*>(&remote_), &address_bytes);
      if (length > 0) {
        packet.resize(static_cast<size_t>(length));
        if (options_.record) print_hex("received", packet);
        end_->receive(now_ns(), packet);
      }
      end_->carry_out(now_ns(), end_->peer.tick(now_ns(), stamp()));
    }
    return true;
  }

  const Options& options_;
  const RandomSource random_ = [this](std::span<uint8_t> out) {
    if (::getrandom(out.data(), out.size(), 0) != static_cast<ssize_t>(out.size())) std::abort();
    if (options_.record) print_hex("random", out);
  };
  const Identity local_;
  const int socket_;
  sockaddr_in remote_{};
  std::optional<End> end_;
};

}  // namespace
}  // namespace adit::tunnel::test

int main(int argc, char** argv) {
  adit::tunnel::test::Options options;
  CLI::App app("Tries the tunnel against a real WireGuard");
  app.require_subcommand(1);
  auto* initiate = app.add_subcommand("initiate", "Handshake with a responder and ping through it");
  auto* respond = app.add_subcommand("respond", "Answer an initiator and its ping");
  initiate->add_option("--endpoint", options.endpoint, "IP:PORT of the responder")->required();
  initiate->add_option("--inner-source", options.inner_source, "Our address in the tunnel");
  initiate->add_option("--inner-destination", options.inner_destination, "Address to ping");
  respond->add_option("--listen", options.listen_port, "UDP port")->required();
  respond->add_flag("--record", options.record, "Print randomness and packets");
  for (auto* command : {initiate, respond}) {
    command->add_option("--private-key-file", options.private_key_file)->required();
    command->add_option("--peer-public-key", options.peer_public_key)->required();
    command->add_option("--psk-file", options.psk_file);
    command->add_option("--timeout", options.timeout_s, "Seconds for each step");
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  adit::tunnel::test::Probe probe(options, initiate->parsed());
  const bool answered = initiate->parsed() ? probe.initiate() : probe.respond();
  if (answered) std::printf("wg-probe: the echo was answered\n");
  return answered ? 0 : 1;
}
