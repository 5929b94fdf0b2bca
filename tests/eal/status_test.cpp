// The status document and its socket, with a hundred tunnels: made a piece at a time, so that
// nobody waits for it but who asked.
#include "gateway/status.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <set>

#include "tests/eal/control_rig.h"

namespace adit::gateway::test {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kSecondNs = tunnel::kSecondNs;

class Status : public ControlRig {
 protected:
  Status() {
    start(1);
    for (unsigned i = 0; i < kClients; ++i) receive(clients_[i].initiate(), endpoint_of(i));
    tick_until(kClients);
    sources_ = {.config = &config_, .control = &*control_, .tunnels = &*tunnels_};
    path_ = "/tmp/adit-status-test-" + std::to_string(getpid()) + ".sock";
    server_.emplace(path_, sources_, *control_);
  }
  ~Status() override {
    for (const int fd : fds_) close(fd);
    server_.reset();
    stop();
  }

  int ask(const std::string& request) {
    const int fd = fds_.emplace_back(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    EXPECT_EQ(send(fd, request.data(), request.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(request.size()));
    return fd;
  }
  // What has come since the last time; `is_end` if there is no more.
  static std::string read_from(int fd, bool& is_end) {
    std::string text;
    char bytes[4096];
    ssize_t got = 0;
    while ((got = recv(fd, bytes, sizeof bytes, 0)) > 0) text.append(bytes, static_cast<size_t>(got));
    is_end = got == 0;
    return text;
  }
  static size_t tunnels_in(const std::string& text) {
    size_t count = 0;
    for (size_t at = 0; (at = text.find("\"index\":", at)) != std::string::npos; ++at) ++count;
    return count;
  }
  void expect_all(const std::string& text) {
    const Json document = Json::parse(text, nullptr, false);
    ASSERT_FALSE(document.is_discarded()) << text;
    std::set<unsigned> slots;
    for (const Json& tunnel : document["tunnels"]) slots.insert(tunnel["index"].get<unsigned>());
    EXPECT_EQ(slots.size(), kClients);
    EXPECT_EQ(document["tunnels"].size(), kClients);
    EXPECT_EQ(document["control"]["tunnels_opened"], kClients);
    EXPECT_TRUE(document.contains("neighbours"));
  }

  StatusSources sources_;
  std::string path_;
  std::optional<StatusServer> server_;
  std::vector<int> fds_;
};

TEST_F(Status, HasEachTunnelOnce) { expect_all(status_text(sources_, now_ns_)); }

TEST_F(Status, IsMadeAPieceAtATime) {
  const int fd = ask("status\n");
  std::string text;
  bool is_end = false;
  unsigned ticks = 0;
  for (bool has_more = true; has_more; ++ticks) {
    has_more = server_->tick(now_ns_);
    const std::string piece = read_from(fd, is_end);
    EXPECT_LE(tunnels_in(piece), StatusText::kSubscribersAtATime);
    text += piece;
  }
  EXPECT_TRUE(is_end);
  EXPECT_EQ(ticks, 1 + (kClients + 63) / 64);
  expect_all(text);
}

TEST_F(Status, IsWholeHoweverLongItTakesIfOnlyItGoesOn) {
  const int fd = ask("status\n");
  std::string text;
  bool is_end = false;
  for (int i = 0; i < 10 && !is_end; ++i) {
    server_->tick(now_ns_ += kSecondNs * 3 / 2);
    text += read_from(fd, is_end);
  }
  EXPECT_TRUE(is_end);
  expect_all(text);
}

TEST_F(Status, WhoeverAsksNothingIsShownOut) {
  const int fd = ask("");
  bool is_end = false;
  EXPECT_FALSE(server_->tick(now_ns_));
  read_from(fd, is_end);
  EXPECT_FALSE(is_end);
  server_->tick(now_ns_ + 2 * kSecondNs);
  read_from(fd, is_end);
  EXPECT_TRUE(is_end);
}

TEST_F(Status, TwoMayAskAtATime) {
  std::vector<int> fds;
  for (int i = 0; i < 2; ++i) fds.push_back(ask("status\n"));
  for (int i = 0; i < 20; ++i) server_->tick(now_ns_);
  bool is_end = false;
  for (const int fd : fds) {
    expect_all(read_from(fd, is_end));
    EXPECT_TRUE(is_end);
  }
}

TEST_F(Status, ATunnelMayGoMeanwhile) {
  StatusText status(sources_);
  std::string text;
  EXPECT_TRUE(status.append(text, now_ns_));
  EXPECT_TRUE(status.append(text, now_ns_));
  now_ns_ += config_.tunnel.dead_after_ns + kSecondNs;  // nobody has confirmed a session
  tick_while([&] { return control_->counters().tunnels_aged_out < kClients; });
  while (status.append(text, now_ns_)) {
  }
  const Json document = Json::parse(text, nullptr, false);
  ASSERT_FALSE(document.is_discarded()) << text;
  EXPECT_EQ(document["tunnels"].size(), StatusText::kSubscribersAtATime);
}

}  // namespace
}  // namespace adit::gateway::test
