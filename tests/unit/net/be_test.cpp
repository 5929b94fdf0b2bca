#include "lib/net/be.h"

#include <gtest/gtest.h>

#include <cstring>

namespace adit {
namespace {

TEST(WireInteger, HoldsItsBytesInTheNamedOrder) {
  const Be32 big = Be32::from_host(0x01020304);
  const Le32 little = Le32::from_host(0x01020304);
  const unsigned char expected_big[] = {1, 2, 3, 4};
  const unsigned char expected_little[] = {4, 3, 2, 1};
  EXPECT_EQ(std::memcmp(&big, expected_big, 4), 0);
  EXPECT_EQ(std::memcmp(&little, expected_little, 4), 0);
  EXPECT_EQ(big.host(), 0x01020304u);
  EXPECT_EQ(little.host(), 0x01020304u);
}

TEST(WireInteger, RoundTripsEveryWidth) {
  EXPECT_EQ(Be16::from_host(0xabcd).host(), 0xabcd);
  EXPECT_EQ(Be64::from_host(0x0123456789abcdefu).host(), 0x0123456789abcdefu);
  EXPECT_EQ(Le64::from_host(0x0123456789abcdefu).host(), 0x0123456789abcdefu);
  EXPECT_EQ(Be16::from_raw(Be16::from_host(0x1234).raw()).host(), 0x1234);
}

TEST(WireInteger, OrdersByValue) {
  EXPECT_LT(Be16::from_host(0x00ff), Be16::from_host(0x0100));
  EXPECT_LT(Be32::from_host(1), Be32::from_host(0x01000000));
}

TEST(WireInteger, IsUsableInConstantExpressions) {
  static_assert(Be16::from_host(0x0800).host() == 0x0800);
  static_assert(Be32{}.host() == 0);
}

}  // namespace
}  // namespace adit
