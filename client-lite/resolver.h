// A gateway's name turned into its addresses, without stopping the packets: getaddrinfo() can block
// for half a minute when the network is down, so it runs in a thread of its own that lives for one
// question. An IPv4 address needs no thread.
//
// Owner: Client. A question that is no longer wanted is abandoned, not waited for: its thread
// keeps its own share of the answer's memory and goes away when getaddrinfo() returns.
#pragma once

#include <netdb.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client-lite/file_descriptor.h"
#include "lib/net/address.h"

namespace adit::client {

// What is used of a name that has more.
inline constexpr size_t kAddressesMax = 8;

// What a name stands for.
struct NameAnswer {
  std::vector<Ipv4Address> addresses;  // in the order in which to try them (RFC 6724)
  std::string failure;                 // a sentence, when there is none
};
// Those of a list that getaddrinfo() made, which may be empty: each once, kAddressesMax at most.
std::vector<Ipv4Address> addresses_of(const addrinfo* list);
// Blocks. An address stands for itself.
NameAnswer look_up(const std::string& host);

class Resolver {
 public:
  bool open();
  // Becomes readable when an answer is there: call take() then.
  int fd() const { return wake_.get(); }

  // Asks; a question under way is abandoned.
  void ask(const std::string& host);
  bool is_asking() const { return question_ != nullptr; }

  // The answer to the last question, once; nullopt when it is not there yet.
  std::optional<NameAnswer> take();

 private:
  struct Question;
  FileDescriptor wake_;
  std::shared_ptr<Question> question_;
};

}  // namespace adit::client
