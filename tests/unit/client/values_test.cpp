// The small pure parts: status, backoff, round trip, packet queue.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>

#include "client-lite/backoff.h"
#include "client-lite/packet_queue.h"
#include "client-lite/round_trip.h"
#include "client-lite/status.h"

namespace adit::client {
namespace {

// Out of line: g++ 12 takes a short literal assigned to a fresh string for uninitialized bytes.
[[gnu::noinline]] Status status_of(const std::string& state) {
  Status status;
  status.device = std::string("adit0");
  status.state = state;
  return status;
}

TEST(StatusJson, EscapesWhateverComesIn) {
  EXPECT_EQ(json_string("plain"), "\"plain\"");
  EXPECT_EQ(json_string("a\"b\\c"), "\"a\\\"b\\\\c\"");
  EXPECT_EQ(json_string("line\nbreak"), "\"line\\u000abreak\"");
  EXPECT_EQ(json_string("\xc3\x7f"), "\"\\u00c3\\u007f\"");
}

TEST(StatusJson, SaysNullForWhatIsUnknownAndThreeDecimalsForTimes) {
  Status status = status_of("up");
  status.round_trip_ns = 12'345'678;
  status.uptime_ns = 61'005'000'000;
  status.routes = {"40.1.1.0/24", "10.0.0.0/8"};
  status.counters.rx_replayed = 7;
  const std::string json = to_json(status);
  for (const char* part :
       {"\"state\":\"up\"", "\"address\":null", "\"round_trip_ms\":12.345",
        "\"uptime_s\":61.005", "\"lease_left_s\":null",
        "\"routes\":[\"40.1.1.0/24\",\"10.0.0.0/8\"]", "\"dns\":[]", "\"rx_replayed\":7",
        "\"drops\":{", "\"counters\":{"}) {
    EXPECT_NE(json.find(part), std::string::npos) << part << " in " << json;
  }
}

TEST(StatusText, LeavesOutWhatIsZeroOrUnknown) {
  Status status = status_of("handshaking");
  status.last_error = "no free address";
  const std::string text = to_text(status);
  EXPECT_NE(text.find("no free address"), std::string::npos);
  EXPECT_EQ(text.find("round trip"), std::string::npos);
  EXPECT_EQ(text.find("dropped"), std::string::npos);
  status.counters.rx_bad_tag = 1;
  EXPECT_NE(to_text(status).find("dropped\n  rx_bad_tag"), std::string::npos);
}

TEST(StatusText, HasALineForEachOfSeveralLanes) {
  Status status = status_of("up");
  EXPECT_EQ(to_text(status).find("lane"), std::string::npos);
  EXPECT_NE(to_json(status).find("\"lanes\":[]"), std::string::npos);
  status.lanes = {{.is_up = true, .local_port = 5000, .tx_bytes = 7, .rx_bytes = 8,
                   .last_handshake_ago_ns = 3'100'000'000, .last_heard_ago_ns = 0},
                  {}};
  EXPECT_NE(to_text(status).find("lane 0                    up, UDP port 5000, handshake 3 s ago, "
                                 "7 bytes sent, 8 received\n"),
            std::string::npos)
      << to_text(status);
  EXPECT_NE(to_text(status).find("lane 1                    down, 0 bytes sent"),
            std::string::npos);
  EXPECT_NE(to_json(status).find("\"lanes\":[{\"up\":true,\"local_port\":5000,"
                                 "\"last_handshake_s\":3.100,\"last_heard_s\":0.000,"
                                 "\"tx_bytes\":7,\"rx_bytes\":8},{\"up\":false,"),
            std::string::npos)
      << to_json(status);
}

TEST(Counters, OfSeveralThreadsMakeOneSum) {
  Counters one;
  Counters other;
  one.tx_packets = 3;
  other.tx_packets += 4;
  ++other.rx_replayed;
  one.add(other);
  EXPECT_EQ(one.tx_packets, 7u);
  EXPECT_EQ(one.rx_replayed, 1u);
}

TEST(Backoff, DoublesFromOneSecondToAMinuteAndStartsAnew) {
  Backoff backoff;
  constexpr uint64_t kTop = UINT64_MAX;
  uint64_t bound_ns = Backoff::kFirstNs;
  for (int i = 0; i < 10; ++i) {
    Backoff same = backoff;
    EXPECT_EQ(same.next_ns(0), bound_ns / 2);
    const uint64_t wait_ns = backoff.next_ns(kTop);
    EXPECT_GE(wait_ns, bound_ns / 2);
    EXPECT_LE(wait_ns, bound_ns);
    bound_ns = std::min(bound_ns * 2, Backoff::kLongestNs);
  }
  EXPECT_EQ(bound_ns, Backoff::kLongestNs);
  backoff.reset();
  EXPECT_LE(backoff.next_ns(kTop), Backoff::kFirstNs);
}

TEST(RoundTrip, FollowsRfc6298) {
  RoundTrip round_trip;
  round_trip.on_probe(1000);
  EXPECT_TRUE(round_trip.on_reply(1000, 1800));
  EXPECT_EQ(round_trip.smoothed_ns(), 800u);
  EXPECT_EQ(round_trip.variation_ns(), 400u);
  round_trip.on_probe(5000);
  EXPECT_TRUE(round_trip.on_reply(5000, 6600));
  EXPECT_EQ(round_trip.smoothed_ns(), 900u);   // 7/8 of 800 + 1/8 of 1600
  EXPECT_EQ(round_trip.variation_ns(), 500u);  // 3/4 of 400 + 1/4 of 800
}

TEST(RoundTrip, TakesNoAnswerThatNobodyAskedFor) {
  RoundTrip round_trip;
  EXPECT_FALSE(round_trip.on_reply(1000, 1800));
  round_trip.on_probe(2000);
  EXPECT_FALSE(round_trip.on_reply(1000, 2100));
  EXPECT_FALSE(round_trip.on_reply(2000, 1999));
  EXPECT_TRUE(round_trip.on_reply(2000, 2100));
  EXPECT_FALSE(round_trip.on_reply(2000, 2200));  // the same once more
}

TEST(PacketQueue, WhatWaitsOnStandsBehindTheOthers) {
  const std::unique_ptr<PacketQueue> queue(new PacketQueue);
  const std::unique_ptr<PacketBuffer> buffer(new PacketBuffer);
  for (const unsigned count : {3u, PacketQueue::kPacketsMax}) {
    for (unsigned i = 0; i < count; ++i) {
      buffer->inner()[0] = static_cast<uint8_t>(i);
      EXPECT_TRUE(queue->push(*buffer, Admitted{.bytes = 1, .parsed = {}, .lane = 7}));
    }
    for (unsigned i = 0; i < 2; ++i) {
      PacketQueue::Waiting& first = queue->pop();
      EXPECT_TRUE(queue->push(first.buffer, first.packet));
    }
    EXPECT_EQ(queue->size(), count);
    for (unsigned i = 0; i < count; ++i) {
      PacketQueue::Waiting& waiting = queue->pop();
      EXPECT_EQ(waiting.buffer.inner()[0], (i + 2) % count);
      EXPECT_EQ(waiting.packet.lane, 7);
    }
  }
}

TEST(PacketQueue, KeepsOrderAndRefusesWhenFull) {
  const std::unique_ptr<PacketQueue> queue(new PacketQueue);
  const std::unique_ptr<PacketBuffer> buffer(new PacketBuffer);
  const auto push = [&](uint8_t mark) {
    buffer->inner()[0] = mark;
    return queue->push(*buffer, Admitted{1, false});
  };
  for (unsigned round = 0; round < 3; ++round) {
    for (unsigned i = 0; i < PacketQueue::kPacketsMax; ++i) {
      EXPECT_TRUE(push(static_cast<uint8_t>(i)));
    }
    EXPECT_FALSE(push(99));
    for (unsigned i = 0; i < PacketQueue::kPacketsMax - 5; ++i) {
      EXPECT_EQ(queue->pop().buffer.inner()[0], i);
    }
    queue->clear();
    EXPECT_TRUE(queue->empty());
  }
}

}  // namespace
}  // namespace adit::client
