// The sections about the program itself.
#include <gtest/gtest.h>

#include "gateway/config.h"
#include "tests/unit/config/temp_dir.h"

namespace adit::gateway {
namespace {

class GatewayService : public testing::Test {
 protected:
  GatewayService() { dir_.write_key("gw.key", 1); }

  std::optional<Config> load_with(const std::string& sections) {
    errors_.clear();
    return load(dir_.write("gw.yaml",
                           "ports: [{name: wan, device: net_tap0, address: 30.1.1.10/24}]\n"
                           "tunnel: {private_key_file: gw.key}\n"
                           "pools: [{name: clients, network: 192.168.1.0/24}]\n" +
                               sections),
                errors_);
  }

  config::TempDir dir_;
  std::vector<config::Error> errors_;
};

TEST_F(GatewayService, HasOneControlThread) {
  const auto config = load_with("");
  ASSERT_TRUE(config) << dir_.lines(errors_);
  EXPECT_EQ(config->control_threads, 1u);
  EXPECT_TRUE(config->control_cores.empty());
}

TEST_F(GatewayService, ReadsHowManyControlThreadsThereAreAndWhere) {
  const auto config = load_with("control: {threads: 3, cores: [0, 5]}\neal: {worker_cores: [1]}\n");
  ASSERT_TRUE(config) << dir_.lines(errors_);
  EXPECT_EQ(config->control_threads, 3u);
  EXPECT_EQ(config->control_cores, (std::vector<uint32_t>{0, 5}));
}

TEST_F(GatewayService, RefusesNoControlThreadAndTooMany) {
  EXPECT_FALSE(load_with("control: {threads: 0}\n"));
  EXPECT_EQ(dir_.lines(errors_),
            "gw.yaml:4:20: control.threads: expected a whole number from 1 to 16, got \"0\"\n");
  EXPECT_FALSE(load_with("control: {threads: 17}\n"));
}

TEST_F(GatewayService, KeepsControlThreadsFromWorkersCores) {
  EXPECT_FALSE(load_with("control: {threads: 2, cores: [0, 3]}\neal: {worker_cores: [2, 3]}\n"));
  EXPECT_EQ(dir_.lines(errors_),
            "gw.yaml:4:34: control.cores[1]: is a worker's core, which it needs to itself\n");
}

}  // namespace
}  // namespace adit::gateway
