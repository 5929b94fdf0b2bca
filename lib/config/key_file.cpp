#include "lib/config/key_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace adit::config {
namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr size_t kKeyTextBytes = 44;  // 43 digits of 6 bits for 256 bits, and one '='

// A key and a line break fit many times over; whatever fills this is no key file.
constexpr size_t kFileBytesMax = 256;

// A file that closes itself.
class Descriptor {
 public:
  explicit Descriptor(const std::string& path)
      // O_NONBLOCK, so that a named pipe is refused instead of waited for.
      : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// Decodes what is in the file, and leaves no copy of it behind in memory.
std::optional<KeyBytes> read_key(int fd) {
  char buffer[kFileBytesMax];
  const ssize_t count = read(fd, buffer, sizeof buffer);
  std::optional<KeyBytes> key;
  if (count > 0 && static_cast<size_t>(count) < sizeof buffer) {
    std::string_view text(buffer, static_cast<size_t>(count));
    const size_t last = text.find_last_not_of(" \t\r\n");
    key = decode_key(text.substr(0, last == std::string_view::npos ? 0 : last + 1));
  }
  explicit_bzero(buffer, sizeof buffer);
  return key;
}

}  // namespace

std::optional<KeyBytes> decode_key(std::string_view text) {
  if (text.size() != kKeyTextBytes || text.back() != '=') return std::nullopt;
  text.remove_suffix(1);
  KeyBytes key{};
  size_t filled = 0;
  uint32_t bits = 0;
  unsigned bit_count = 0;
  for (const char c : text) {
    const size_t digit = kAlphabet.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    bit_count += 6;
    if (bit_count < 8) continue;
    bit_count -= 8;
    key[filled++] = static_cast<uint8_t>(bits >> bit_count);
    bits &= (1u << bit_count) - 1;
  }
  if (bits != 0) return std::nullopt;  // the two bits that no byte takes
  return key;
}

std::string encode_key(const KeyBytes& key) {
  std::string text;
  uint32_t bits = 0;
  unsigned bit_count = 0;
  for (const uint8_t byte : key) {
    bits = bits << 8 | byte;
    bit_count += 8;
    for (; bit_count >= 6; bit_count -= 6) text += kAlphabet[bits >> (bit_count - 6) & 63];
    bits &= (1u << bit_count) - 1;
  }
  text += kAlphabet[bits << (6 - bit_count) & 63];
  return text + "=";
}

std::string refuse_key_file(uint32_t mode, uint32_t owner, uint32_t effective_user) {
  if (!S_ISREG(mode)) return "is not a regular file";
  if ((mode & 077) != 0) {
    char octal[8];
    std::snprintf(octal, sizeof octal, "%04o", static_cast<unsigned>(mode & 07777));
    return std::string("has mode ") + octal + ", open to group or others: chmod 600 it";
  }
  if (owner != 0 && owner != effective_user) {
    return "belongs to user " + std::to_string(owner) + ", neither root nor the user who starts us";
  }
  return "";
}

KeyFile read_key_file(const std::string& path, KeyOwner owner) {
  const auto refuse = [&](const std::string& why) {
    return KeyFile{std::nullopt, "key file \"" + path + "\" " + why};
  };
  const Descriptor file(path);
  if (file.get() < 0) return refuse(std::string("cannot be opened: ") + std::strerror(errno));
  // Asked of the open file, so that nobody can change what the path names in between.
  struct stat status;
  if (fstat(file.get(), &status) != 0) return refuse("cannot be examined");
  const uint32_t user = owner == KeyOwner::us ? geteuid() : status.st_uid;
  const std::string why = refuse_key_file(status.st_mode, status.st_uid, user);
  if (!why.empty()) return refuse(why);
  const std::optional<KeyBytes> key = read_key(file.get());
  if (!key) return refuse("does not hold one key of 44 base64 characters");
  return {key, ""};
}

}  // namespace adit::config
