#include "client-lite/survey.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "client-lite/clock.h"

namespace adit::client {
namespace {

constexpr uint64_t kNever = UINT64_MAX;

}  // namespace

Survey::Survey()
    : random_(fill_random),
      identity_(tunnel::make_identity(tunnel::generate_private_key(random_))) {}

bool Survey::begin(std::span<const GatewayConfig> gateways, HostRights& rights, uint64_t now_ns) {
  stop();
  std::string refusal;
  if (!socket_.open(0, rights, refusal)) return false;
  socket_.forgo_segments();
  gateways_ = gateways;
  findings_.assign(gateways.size(), {});
  asked_.clear();
  stage_ = Stage::resolving;
  resolving_ = 0;
  tries_ = 0;
  ends_ns_ = due_ns_ = now_ns + kResolveNs;
  resolver_.ask(gateways_[0].host);
  return true;
}

void Survey::stop() {
  stage_ = Stage::idle;
  due_ns_ = kNever;
  socket_ = {};
}

void Survey::on_resolved(uint64_t now_ns) {
  std::optional<NameAnswer> answer = resolver_.take();
  if (!answer || stage_ != Stage::resolving) return;
  findings_[resolving_].addresses = std::move(answer->addresses);
  if (++resolving_ < gateways_.size()) return resolver_.ask(gateways_[resolving_].host);
  due_ns_ = now_ns;
}

Survey::Step Survey::tick(uint64_t now_ns) {
  if (now_ns < due_ns_) return Step::none;
  if (stage_ == Stage::resolving) {
    stage_ = Stage::addressed;
    return Step::addressed;
  }
  if (stage_ == Stage::addressed) {
    stage_ = Stage::asking;
    address_all();
    ends_ns_ = kNever;
  }
  if (!is_any_missing() || now_ns >= ends_ns_ || tries_ == kTries) {
    stop();
    return Step::done;
  }
  if (ends_ns_ == kNever) ask_all(now_ns);
  due_ns_ = std::min(now_ns + kTryNs, ends_ns_);
  return Step::none;
}

bool Survey::is_any_missing() const {
  return std::ranges::any_of(findings_, [](const Finding& found) {
    return !found.addresses.empty() && !found.round_trip_ns;
  });
}

void Survey::address_all() {
  for (size_t i = 0; i < gateways_.size(); ++i) {
    const GatewayConfig& gateway = gateways_[i];
    for (const Ipv4Address address : findings_[i].addresses) {
      asked_.push_back({.gateway = i,
                        .endpoint = {address, Be16::from_host(gateway.port)},
                        .jar = tunnel::CookieJar(tunnel::PublicKey{gateway.public_key})});
    }
  }
}

void Survey::ask_all(uint64_t now_ns) {
  ++tries_;
  for (Asked& asked : asked_) {
    if (findings_[asked.gateway].round_trip_ns) continue;
    const auto remote = tunnel::make_remote_identity(
        identity_, tunnel::PublicKey{gateways_[asked.gateway].public_key}, tunnel::PresharedKey{});
    if (!remote) continue;
    tunnel::InitiationMessage message{};
    asked.index = static_cast<uint32_t>(random_u64());
    tunnel::create_initiation(identity_, *remote, asked.index, {}, tai64n_now(), random_, message);
    const std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(&message), sizeof message);
    asked.jar.stamp(bytes, now_ns);
    asked.sent_ns = adit::client::now_ns();
    const std::span<const uint8_t> datagram = bytes;
    socket_.send({&datagram, 1}, asked.endpoint);
  }
}

void Survey::on_readable(std::span<ArrivalBuffer, kReceiveBatch> buffers, uint64_t now_ns) {
  std::array<Arrival, kReceiveBatch> arrivals;
  const unsigned count = socket_.receive(buffers, arrivals);
  for (const Arrival& arrival : std::span(arrivals).first(count)) {
    take(arrival.bytes, arrival.source, now_ns);
  }
}

void Survey::take(std::span<const uint8_t> datagram, const Endpoint& source, uint64_t now_ns) {
  tunnel::CookieReplyMessage reply;
  if (stage_ != Stage::asking || datagram.size() != sizeof reply) return;
  std::memcpy(&reply, datagram.data(), sizeof reply);
  if (reply.type != static_cast<uint8_t>(tunnel::MessageType::cookie_reply)) return;
  for (Asked& asked : asked_) {
    Finding& found = findings_[asked.gateway];
    if (found.round_trip_ns || reply.receiver_index.host() != asked.index) continue;
    if (source != asked.endpoint || !asked.jar.on_reply(reply, now_ns)) continue;
    found.round_trip_ns = adit::client::now_ns() - asked.sent_ns;
    found.answered = asked.endpoint.address;
    ends_ns_ = std::min(ends_ns_, now_ns + kGraceNs);
    due_ns_ = std::min(due_ns_, ends_ns_);
    if (!is_any_missing()) due_ns_ = now_ns;
    return;
  }
}

}  // namespace adit::client
