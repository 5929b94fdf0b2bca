// RFC 6888 where it speaks of the operator: what the log says of blocks and limits, and what it
// must not say.
#include <set>

#include "gateway/nat_log.h"
#include "tests/conformance/lab.h"

namespace adit::gateway::test {
namespace {

using Lines = std::vector<std::string>;

class Told : public Lab {
 protected:
  explicit Told(const nat::Settings& nat = {}, unsigned workers = 0)
      : Lab({.limit_window_s = 60, .nat = nat, .workers = workers}) {
    for (uint32_t slot = 1; slot <= kSubscribersMax; ++slot) {
      names_.push_back("s" + std::to_string(slot));
    }
    log_.emplace(names_, [this](NatLog::Level level, const std::string& line) {
      written_.push_back((level == NatLog::Level::warning ? "! " : "") + line);
    });
  }
  // What was logged since the last call.
  Lines written() {
    for (const ToControl& item : handed_out()) {
      if (item.kind >= ToControl::block_granted) log_->on_item(item);
    }
    return std::exchange(written_, {});
  }
  static std::string block(const Endpoint& external, unsigned ports) {
    const unsigned first = external.port.host() / ports * ports;
    return "block " + at(external.address, first).to_string() + "-" +
           std::to_string(first + ports - 1);
  }
  void refuse(unsigned port, uint32_t slot = 1) {
    give_in(inside(request(Kind::udp, at(inner(slot), port), kService), slot));
    come_out();
  }

 private:
  std::vector<std::string> names_;
  std::optional<NatLog> log_;
  Lines written_;
};

class ToldOfTen : public Told {
 protected:
  ToldOfTen() : Told({.profiles = {{.limits = {.mappings = 10}}}}) {}
};

TEST_F(ToldOfTen, R6888_11_LimitIsToldOnceAWindowWithTheNumberSinceThen) {
  for (unsigned i = 0; i < 10; ++i) map(Kind::udp, at(kInner, 2000 + i));
  EXPECT_EQ(written().size(), 1u) << "its block";
  refuse(4000);
  EXPECT_EQ(written(), Lines{"! s1 met its mapping_limit, packets refused since last told: 1"});
  for (unsigned i = 0; i < 500; ++i) refuse(4000 + i);
  set_time(59);
  refuse(4000);
  EXPECT_EQ(written(), Lines{});
  set_time(60);
  refuse(4000);
  EXPECT_EQ(written(), Lines{"! s1 met its mapping_limit, packets refused since last told: 502"});
  EXPECT_EQ(counters_.limit_events, 2u);
  EXPECT_EQ(counters_.events_lost, 0u);
}

TEST_F(ToldOfTen, R6888_11_EachSubscriberHasAWindowOfItsOwn) {
  for (uint32_t slot = 1; slot <= 3; ++slot) {
    for (unsigned i = 0; i < 10; ++i) map(Kind::udp, at(inner(slot), 2000 + i), kService, slot);
  }
  written();
  for (uint32_t slot = 1; slot <= 3; ++slot) refuse(4000, slot);
  const Lines lines = written();
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_TRUE(lines[0].starts_with("! s1 met its mapping_limit")) << lines[0];
  EXPECT_TRUE(lines[2].starts_with("! s3 met its mapping_limit")) << lines[2];
}

class ToldOfRate : public Told {
 protected:
  ToldOfRate()
      : Told({.first_block_ports = 16,
              .profiles = {{.limits = {.new_mappings_per_second = 5, .new_mappings_burst = 16,
                          .blocks = 1}}}}) {}
};

TEST_F(ToldOfRate, R6888_11_EachLimitHasItsName) {
  for (unsigned i = 0; i < 16; ++i) map(Kind::udp, at(kInner, 2000 + i));
  written();
  refuse(4000);
  EXPECT_EQ(written(), Lines{"! s1 met its rate_limited, packets refused since last told: 1"});
  set_time(1);
  refuse(4000);
  EXPECT_EQ(written(), Lines{"! s1 met its port_limit, packets refused since last told: 1"});
}

class ToldOfPool : public Told {
 protected:
  ToldOfPool() : Told({.first_port = 2048, .last_port = 2063, .first_block_ports = 16}) {}
};

TEST_F(ToldOfPool, R6888_11_APoolThatIsUsedUpIsToldToo) {
  map(Kind::udp, kApplication);
  far(2);
  EXPECT_EQ(written(), Lines{"block 30.1.1.10:2048-2063 granted to s1"});
  refuse(1025, 2);
  EXPECT_EQ(written(), Lines{"! s2 met its pool_exhausted, packets refused since last told: 1"});
}

// One line for the block, whatever is done with it; one when it returns.
TEST_F(Told, R6888_14_ABlockIsOneEntryAndItsReturnAnother) {
  std::optional<Endpoint> external;
  for (unsigned i = 0; i < 20; ++i) {
    for (const Kind kind : kKinds) external = map(kind, at(kInner, 2000 + i));
  }
  const std::string mine = block(*external, 64);
  EXPECT_EQ(written(), Lines{mine + " granted to s1"});
  EXPECT_EQ(counters_.block_events, 1u);
  set_time(8000);  // all idle, then rested
  sweep_all();
  set_time(9000);
  sweep_all();
  EXPECT_EQ(written(), Lines{mine + " returned by s1"});
  EXPECT_EQ(counters_.block_events, 2u);
}

TEST_F(Told, R6888_14_BlocksOfATunnelThatIsGoneAreItsSubscribersStill) {
  const Endpoint one = map(Kind::udp, at(inner(1), 1025));
  const Endpoint two = map(Kind::udp, at(inner(2), 1025), kService, 2);
  EXPECT_EQ(written(),
            (Lines{block(one, 64) + " granted to s1", block(two, 64) + " granted to s2"}));
  close(2);
  set_time(200);
  sweep_all();
  EXPECT_EQ(written(), Lines{block(two, 64) + " returned by s2"});
}

TEST_F(Told, R6888_14_FurtherBlocksAreEntriesOfTheirOwn) {
  for (unsigned i = 0; i < 150; ++i) map(Kind::udp, at(kInner, 2000 + i));
  const Lines lines = written();
  EXPECT_GE(lines.size(), 2u);
  EXPECT_LE(lines.size(), 3u);
  for (const std::string& line : lines) {
    EXPECT_TRUE(line.starts_with("block 30.1.1.10:") && line.ends_with(" granted to s1")) << line;
  }
}

// Every kind of line that there is, and who was written to in none.
TEST_F(ToldOfRate, R6888_12_NoLineNamesADestinationOrAnInnerHost) {
  const Endpoint remotes[] = {kService, kElsewhere, at(kServer, 53)};
  for (unsigned i = 0; i < 16; ++i) map(kKinds[i % 2], at(kInner, 2000 + i), remotes[i % 3]);
  Lines lines = written();
  const auto add = [&] {
    for (const std::string& line : written()) lines.push_back(line);
  };
  refuse(4000);
  add();
  set_time(8000);
  sweep_all();
  set_time(9000);
  sweep_all();
  add();
  ASSERT_EQ(lines.size(), 3u);
  for (const std::string& line : lines) {
    for (const Endpoint& remote : remotes) {
      EXPECT_EQ(line.find(remote.address.to_string()), std::string::npos) << line;
    }
    EXPECT_EQ(line.find(kInner.to_string()), std::string::npos) << line;
  }
}

// Nobody takes the items out: what finds no room is counted, and no packet is lost for it.
class ToldByOne : public Told {
 protected:
  ToldByOne() : Told({}, 1) {}
};

TEST_F(ToldByOne, R6888_14_EventsThatFindNoRoomAreCounted) {
  for (uint32_t slot = 1; slot <= kSubscribersMax; ++slot) {
    map(Kind::udp, at(inner(slot), 1025), kService, slot);
  }
  Pipeline::ControlOutbox& outbox = pipeline_->control_outbox();
  outbox.count = static_cast<unsigned>(outbox.items.size());
  map(Kind::udp, at(kInner, 7), kService);
  EXPECT_EQ(counters_.events_lost, 0u);
  for (unsigned i = 0; i < 100; ++i) map(Kind::udp, at(kInner, 2000 + i));
  EXPECT_EQ(counters_.events_lost, 1u);
  outbox.count = 0;
}

}  // namespace
}  // namespace adit::gateway::test
