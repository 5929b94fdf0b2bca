// Keys as an operator writes them: 32 bytes in base64, the form of `wg genkey`. Public keys stand
// in the configuration itself; secret ones stand in files of their own, which this reads.
//
// read_key_file() makes system calls, unlike the rest of lib/: it is start-up code, called by the
// configuration loaders before the first packet and never after.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace adit::config {

using KeyBytes = std::array<uint8_t, 32>;

// Strict: exactly 44 characters of the alphabet of RFC 4648 §4 ending in one '=', with the unused
// low bits of the last digit zero, so that a key has exactly one spelling.
std::optional<KeyBytes> decode_key(std::string_view text);
std::string encode_key(const KeyBytes& key);

// What read_key_file() found: a key, or why there is none (a sentence that names the path).
struct KeyFile {
  std::optional<KeyBytes> key;
  std::string refusal;
};

// Whose file it may be beside root's: the effective user's, who goes by it; or anybody's, for a
// command by which root looks at another user's program.
enum class KeyOwner : uint8_t { us, anybody };

// Reads a file that holds one key and perhaps white space after it. It refuses a file that group
// or others may read or write, one that belongs to neither root nor `owner`, and anything that is
// not a regular file.
KeyFile read_key_file(const std::string& path, KeyOwner owner = KeyOwner::us);

// The rule of read_key_file() by itself: why a file of this st_mode and owner is refused, or "".
std::string refuse_key_file(uint32_t mode, uint32_t owner, uint32_t effective_user);

}  // namespace adit::config
