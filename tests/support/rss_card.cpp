#include "tests/support/rss_card.h"

#include <rte_ethdev.h>

#include <cassert>
#include <cerrno>

#include "tests/support/library_function.h"

namespace adit::test {
namespace {

RssCard* card = nullptr;

}  // namespace

RssCard::RssCard() {
  assert(card == nullptr);
  card = this;
}

RssCard::~RssCard() {
  card = nullptr;
}

}  // namespace adit::test

using adit::test::card;
using adit::test::library_function;

int rte_eth_dev_rss_reta_query(uint16_t port, rte_eth_rss_reta_entry64* table, uint16_t entries) {
  if (card != nullptr && card->keeps_table_dark) return -ENOTSUP;
  const int result = library_function<decltype(rte_eth_dev_rss_reta_query)>(
      "rte_eth_dev_rss_reta_query")(port, table, entries);
  if (card != nullptr && card->wrong_entry >= 0) {
    const auto entry = static_cast<unsigned>(card->wrong_entry);
    table[entry / RTE_ETH_RETA_GROUP_SIZE].reta[entry % RTE_ETH_RETA_GROUP_SIZE] ^= 1;
  }
  return result;
}

int rte_eth_dev_rss_hash_conf_get(uint16_t port, rte_eth_rss_conf* rss) {
  const int result = library_function<decltype(rte_eth_dev_rss_hash_conf_get)>(
      "rte_eth_dev_rss_hash_conf_get")(port, rss);
  if (card == nullptr) return result;
  if (card->wrong_key_byte >= 0) rss->rss_key[card->wrong_key_byte] ^= 1;
  rss->rss_hf &= ~card->types_missing;
  return result;
}
