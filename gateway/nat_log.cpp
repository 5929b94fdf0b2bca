#include "gateway/nat_log.h"

#include <fmt/format.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include <utility>

namespace adit::gateway {

NatLog::NatLog(std::vector<std::string> names, Write write)
    : names_(std::move(names)), write_(std::move(write)) {}

const std::string& NatLog::name_of(uint32_t subscriber) const {
  static const std::string unknown = "(unknown)";
  return subscriber < names_.size() ? names_[subscriber] : unknown;
}

void NatLog::on_item(const ToControl& item) {
  if (item.kind == ToControl::limit_met) {
    return write_(Level::warning,
                  fmt::format("{} met its {}, packets refused since last told: {}",
                              name_of(item.subscriber), fate_name(static_cast<Fate>(item.reason)),
                              item.count));
  }
  const std::string block =
      fmt::format("{}-{}", item.external.to_string(), item.external.port.host() + item.count - 1);
  if (item.kind == ToControl::block_granted) {
    owners_[item.external] = item.subscriber;
    return write_(Level::info,
                  fmt::format("block {} granted to {}", block, name_of(item.subscriber)));
  }
  const auto owner = owners_.find(item.external);
  const uint32_t subscriber = owner == owners_.end() ? kNoSubscriber : owner->second;
  if (owner != owners_.end()) owners_.erase(owner);
  write_(Level::info, fmt::format("block {} returned by {}", block, name_of(subscriber)));
}

// The file is appended to, so that it may be truncated behind our back; each line is on disk's way
// at once, for it may be asked for by law.
NatLog::Write nat_log_writer(const NatLogConfig& config) {
  std::shared_ptr<spdlog::logger> logger = spdlog::default_logger();
  if (!config.file.empty()) {
    logger = std::make_shared<spdlog::logger>(
        "nat", std::make_shared<spdlog::sinks::basic_file_sink_mt>(config.file));
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %v");
    logger->flush_on(spdlog::level::info);
  }
  return [logger](NatLog::Level level, const std::string& line) {
    logger->log(level == NatLog::Level::info ? spdlog::level::info : spdlog::level::warn, "{}",
                line);
  };
}

}  // namespace adit::gateway
