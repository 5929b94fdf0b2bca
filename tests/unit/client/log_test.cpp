// The log where nobody reads it: standard error is a pipe here, which holds 64 KiB.
#include "client-lite/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>

#include "client-lite/file_descriptor.h"

namespace adit::client {
namespace {

class LogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    reader_ = FileDescriptor(ends[0]);
    before_ = FileDescriptor(dup(STDERR_FILENO));
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    fcntl(reader_.get(), F_SETFL, O_NONBLOCK);
  }
  void TearDown() override { dup2(before_.get(), STDERR_FILENO); }

  std::string read_all() {
    std::string text;
    std::array<char, 4096> part;
    for (ssize_t got; (got = read(reader_.get(), part.data(), part.size())) > 0;) {
      text.append(part.data(), static_cast<size_t>(got));
    }
    return text;
  }

  FileDescriptor reader_;
  FileDescriptor before_;
  const Log log_{config::LogLevel::kInfo};
};

TEST_F(LogTest, ALineIsALine) {
  log_.info("device %s", "adit0");
  log_.debug("not at this level");
  EXPECT_EQ(read_all(), "adit-client: info: device adit0\n");
}

// (Were it waited for, this test would never end.)
TEST_F(LogTest, WhatNobodyReadsIsLostAndCounted) {
  constexpr unsigned kLines = 2000;
  const std::string filling(90, 'x');
  for (unsigned i = 0; i < kLines; ++i) log_.info("%s", filling.c_str());
  const std::string text = read_all();
  const auto written = static_cast<unsigned>(std::count(text.begin(), text.end(), '\n'));
  EXPECT_GT(written, 400u);
  ASSERT_LT(written, kLines);
  log_.info("again");
  log_.info("and again");
  EXPECT_EQ(read_all(), "adit-client: warning: " + std::to_string(kLines - written) +
                            " lines of the log are lost\nadit-client: info: again\n"
                            "adit-client: info: and again\n");
}

}  // namespace
}  // namespace adit::client
