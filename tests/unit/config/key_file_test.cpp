#include "lib/config/key_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/unit/config/temp_dir.h"

namespace adit::config {
namespace {

// 32 bytes 0..31 in base64, as coreutils' base64 prints them.
constexpr char kCounting[] = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

TEST(Key, DecodesWhatOtherProgramsEncode) {
  const auto key = decode_key(kCounting);
  ASSERT_TRUE(key);
  for (uint8_t i = 0; i < 32; ++i) EXPECT_EQ((*key)[i], i);
  EXPECT_EQ(encode_key(*key), kCounting);
}

TEST(Key, EncodesEveryByteValueBackToItself) {
  for (int fill = 0; fill < 256; ++fill) {
    KeyBytes key;
    key.fill(static_cast<uint8_t>(fill));
    EXPECT_EQ(decode_key(encode_key(key)), key);
  }
}

TEST(Key, HasExactlyOneSpelling) {
  const std::string good = kCounting;
  const std::string digits = good.substr(0, 43);
  EXPECT_TRUE(decode_key(digits + "="));
  EXPECT_FALSE(decode_key(digits)) << "no padding";
  EXPECT_FALSE(decode_key(digits + "==")) << "45 characters";
  EXPECT_FALSE(decode_key(digits + "A")) << "a digit in the padding's place";
  EXPECT_FALSE(decode_key(good.substr(0, 42) + "9=")) << "a trailing bit is set";
  EXPECT_FALSE(decode_key(good.substr(0, 42) + "==")) << "31 bytes";
  for (const char wrong : {'-', ' ', '\0'}) {  // '-' is of the URL alphabet
    std::string other = good;
    other[0] = wrong;
    EXPECT_FALSE(decode_key(other)) << wrong;
  }
  EXPECT_FALSE(decode_key(good + "\n"));
  EXPECT_FALSE(decode_key(""));
}

TEST(KeyFile, HoldsOneKeyAndPerhapsALineBreak) {
  const TempDir dir;
  EXPECT_EQ(read_key_file(dir.write("a", kCounting)).key, decode_key(kCounting));
  EXPECT_EQ(read_key_file(dir.write("b", std::string(kCounting) + "\r\n\n")).key,
            decode_key(kCounting));
  const std::string two = dir.write("c", std::string(kCounting) + "\n" + kCounting + "\n");
  EXPECT_EQ(read_key_file(two).refusal,
            "key file \"" + two + "\" does not hold one key of 44 base64 characters");
  EXPECT_FALSE(read_key_file(dir.write("d", "")).key);
  EXPECT_FALSE(read_key_file(dir.write("e", std::string(100'000, '\n'))).key);
}

TEST(KeyFile, IsRefusedWhenOthersMayReadOrWriteIt) {
  const TempDir dir;
  for (const mode_t mode : {0640, 0620, 0604, 0602, 0644, 0666, 0610}) {
    const std::string path = dir.write_key("key", 7, mode);
    char octal[8];
    std::snprintf(octal, sizeof octal, "%04o", static_cast<unsigned>(mode));
    const KeyFile found = read_key_file(path);
    EXPECT_FALSE(found.key);
    EXPECT_EQ(found.refusal, "key file \"" + path + "\" has mode " + octal +
                                 ", open to group or others: chmod 600 it");
  }
  EXPECT_TRUE(read_key_file(dir.write_key("key", 7, 0600)).key);
  EXPECT_TRUE(read_key_file(dir.write_key("key", 7, 0400)).key);
}

TEST(KeyFile, IsRefusedWhenItIsMissingOrNoFile) {
  const TempDir dir;
  EXPECT_EQ(read_key_file(dir.file("none")).refusal,
            "key file \"" + dir.file("none") + "\" cannot be opened: No such file or directory");
  EXPECT_EQ(read_key_file(dir.path()).refusal,
            "key file \"" + dir.path() + "\" is not a regular file");
  ASSERT_EQ(mkfifo(dir.file("pipe").c_str(), 0600), 0);
  EXPECT_EQ(read_key_file(dir.file("pipe")).refusal,
            "key file \"" + dir.file("pipe") + "\" is not a regular file");
}

TEST(KeyFile, OfAnotherUserIsForLookingAtAlone) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const TempDir dir;
  const std::string path = dir.write_key("key", 7, 0600);
  ASSERT_EQ(chown(path.c_str(), 1234, 1234), 0);
  EXPECT_FALSE(read_key_file(path).key);
  EXPECT_TRUE(read_key_file(path, KeyOwner::anybody).key);
  ASSERT_EQ(chmod(path.c_str(), 0640), 0);
  EXPECT_FALSE(read_key_file(path, KeyOwner::anybody).key);
}

TEST(KeyFile, BelongsToRootOrToTheUserWhoStartsUs) {
  EXPECT_EQ(refuse_key_file(S_IFREG | 0600, 0, 1000), "");
  EXPECT_EQ(refuse_key_file(S_IFREG | 0600, 1000, 1000), "");
  EXPECT_EQ(refuse_key_file(S_IFREG | 0600, 1001, 1000),
            "belongs to user 1001, neither root nor the user who starts us");
  EXPECT_EQ(refuse_key_file(S_IFREG | 0600, 1001, 0),
            "belongs to user 1001, neither root nor the user who starts us");
}

}  // namespace
}  // namespace adit::config
