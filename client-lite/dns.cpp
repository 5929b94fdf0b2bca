#include "client-lite/dns.h"

#include <sys/stat.h>
#include <unistd.h>

#include <vector>

namespace adit::client {
namespace {

bool is_in_path(const char* program) {
  const char* path = getenv("PATH");
  std::string_view rest = path == nullptr ? "/usr/sbin:/usr/bin:/sbin:/bin" : path;
  while (!rest.empty()) {
    const size_t colon = rest.find(':');
    const std::string file = std::string(rest.substr(0, colon)) + "/" + program;
    if (access(file.c_str(), X_OK) == 0) return true;
    rest = colon == std::string_view::npos ? std::string_view{} : rest.substr(colon + 1);
  }
  return false;
}

}  // namespace

const char* name_of(DnsTool tool) {
  return tool == DnsTool::resolvectl ? "resolvectl" : "resolvconf";
}

std::optional<DnsTool> dns_tool_named(std::string_view name) {
  for (const DnsTool tool : {DnsTool::resolvectl, DnsTool::resolvconf}) {
    if (name == name_of(tool)) return tool;
  }
  return std::nullopt;
}

std::optional<DnsTool> find_dns_tool() {
  // systemd ships resolvectl even where systemd-resolved does not run.
  struct stat found;
  const bool resolved_runs = stat("/run/systemd/resolve", &found) == 0;
  if (resolved_runs && is_in_path("resolvectl")) return DnsTool::resolvectl;
  if (is_in_path("resolvconf")) return DnsTool::resolvconf;
  return std::nullopt;
}

std::deque<ToolCommand> commands_to_set(DnsTool tool, const std::string& device,
                                        std::span<const Ipv4Address> servers, bool for_all,
                                        bool was_for_all) {
  if (tool == DnsTool::resolvconf) {
    std::string lines;
    for (const Ipv4Address& server : servers) lines += "nameserver " + server.to_string() + "\n";
    return {{{"resolvconf", "-a", device}, lines}};
  }
  std::vector<std::string> words = {"resolvectl", "dns", device};
  for (const Ipv4Address& server : servers) words.push_back(server.to_string());
  std::deque<ToolCommand> commands = {{words, ""}};
  // "~." sends every name to this device's servers (resolvectl(1)).
  if (for_all || was_for_all) {
    commands.push_back({{"resolvectl", "domain", device, for_all ? "~." : ""}, ""});
  }
  return commands;
}

ToolCommand command_to_unset(DnsTool tool, const std::string& device) {
  if (tool == DnsTool::resolvconf) return {{"resolvconf", "-d", device}, ""};
  return {{"resolvectl", "revert", device}, ""};
}

}  // namespace adit::client
