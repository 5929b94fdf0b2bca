// What must outlive a run, one small file each in the state directory, replaced whole by rename:
//
//     <device>.tai64n   the last TAI64N stamp sent, 24 hexadecimal digits. A gateway takes no
//                       initiation that is not newer than the last, and a CPE may start with its
//                       clock in 1970.
//     <device>.address  the last leased inner address, to ask for it again.
//
// A disk that is full or read-only costs a warning, not the tunnel.
//
// Owner: Client.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "lib/net/address.h"
#include "lib/tunnel/noise.h"

namespace adit::client {

class StateFiles {
 public:
  StateFiles(const std::string& directory, const std::string& device)
      : directory_(directory),
        stamp_path_(directory + "/" + device + ".tai64n"),
        address_path_(directory + "/" + device + ".address") {}

  std::optional<tunnel::Tai64n> read_stamp() const;
  bool write_stamp(const tunnel::Tai64n& stamp) const;

  std::optional<Ipv4Address> read_address() const;
  bool write_address(Ipv4Address address) const;

  const std::string& directory() const { return directory_; }

 private:
  std::string directory_;
  std::string stamp_path_;
  std::string address_path_;
};

// Creates `path` and what is missing above it, for root alone. False: errno says why.
bool make_directory(const std::string& path);

}  // namespace adit::client
