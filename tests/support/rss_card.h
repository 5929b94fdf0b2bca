// A network card that has misunderstood how to spread packets, in the place of two DPDK functions:
// rss_card.cpp defines these for the program that it is linked into. While an RssCard lives, what
// devices report is the truth but for what is set here.
#pragma once

#include <cstdint>

namespace adit::test {

class RssCard {
 public:
  RssCard();
  ~RssCard();
  RssCard(const RssCard&) = delete;
  RssCard& operator=(const RssCard&) = delete;

  int wrong_entry = -1;          // of the redirection table, which leads to another queue
  int wrong_key_byte = -1;       // of the key
  uint64_t types_missing = 0;    // RTE_ETH_RSS_*: packets that are not hashed by ports
  bool keeps_table_dark = false;  // it does not say what is in the table
};

}  // namespace adit::test
