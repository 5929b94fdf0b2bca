#include "client-lite/state_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "client-lite/file_descriptor.h"

namespace adit::client {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";

// One line, without its newline; empty when there is none.
std::string read_line(const std::string& path) {
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[64];
  const ssize_t got = file.is_open() ? read(file.get(), text, sizeof text) : -1;
  const std::string_view line(text, got > 0 ? static_cast<size_t>(got) : 0);
  return std::string(line.substr(0, line.find('\n')));
}

// What root leaves beside another user's client, which `doctor` may, is for that user to read.
void give_to_owner_of(const std::string& directory, int file) {
  struct stat owner;
  struct stat ours;
  if (stat(directory.c_str(), &owner) != 0 || fstat(file, &ours) != 0) return;
  if (owner.st_uid == ours.st_uid) return;
  if (fchown(file, owner.st_uid, owner.st_gid) != 0) return;  // we are not root
}

// A reader sees the old line or the new one, never a part.
bool write_line(const std::string& path, std::string line) {
  line.push_back('\n');
  const std::string fresh = path + ".new";
  unlink(fresh.c_str());
  {
    const FileDescriptor file(
        open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (file.is_open()) give_to_owner_of(path.substr(0, path.rfind('/')), file.get());
    const bool written =
        file.is_open() &&
        write(file.get(), line.data(), line.size()) == static_cast<ssize_t>(line.size());
    if (!written) return false;
  }
  return rename(fresh.c_str(), path.c_str()) == 0;
}

}  // namespace

std::optional<tunnel::Tai64n> StateFiles::read_stamp() const {
  const std::string line = read_line(stamp_path_);
  tunnel::Tai64n stamp;
  if (line.size() != stamp.size() * 2) return std::nullopt;
  for (size_t i = 0; i < stamp.size(); ++i) {
    const size_t high = kHexDigits.find(line[2 * i]);
    const size_t low = kHexDigits.find(line[2 * i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
    stamp[i] = static_cast<uint8_t>(high << 4 | low);
  }
  // Half of all labels are reserved, and nothing could follow the last: a gateway that had taken it
  // would listen to no other.
  if (stamp[0] >= 0x80) return std::nullopt;
  return stamp;
}

bool StateFiles::write_stamp(const tunnel::Tai64n& stamp) const {
  std::string line;
  for (const uint8_t byte : stamp) {
    line.push_back(kHexDigits[byte >> 4]);
    line.push_back(kHexDigits[byte & 15]);
  }
  return write_line(stamp_path_, line);
}

std::optional<Ipv4Address> StateFiles::read_address() const {
  return Ipv4Address::parse(read_line(address_path_));
}

bool StateFiles::write_address(Ipv4Address address) const {
  return write_line(address_path_, address.to_string());
}

bool make_directory(const std::string& path) {
  for (size_t slash = path.find('/', 1); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    const std::string parent = path.substr(0, slash);
    if (mkdir(parent.c_str(), 0755) != 0 && errno != EEXIST) return false;
  }
  return mkdir(path.c_str(), 0700) == 0 || errno == EEXIST;
}

}  // namespace adit::client
