#include "client-lite/dns.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

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

std::string name_in(const DnsRequest& request) {
  return {request.device.data(), strnlen(request.device.data(), request.device.size())};
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

// (What the kernel takes for a name, and no program for an option.)
bool DnsRequest::is_sound() const {
  const std::string name = name_in(*this);
  const auto is_odd = [](unsigned char c) { return c <= ' ' || c == '/' || c == 0x7f; };
  return (tool == DnsTool::resolvectl || tool == DnsTool::resolvconf) &&
         server_count <= kServersMax && !name.empty() && name.size() < device.size() &&
         name[0] != '-' && std::none_of(name.begin(), name.end(), is_odd);
}

DnsRequest request_to_set(DnsTool tool, const std::string& device,
                          std::span<const Ipv4Address> servers, bool for_all, bool was_for_all) {
  DnsRequest request = request_to_unset(tool, device);
  request.for_all = for_all;
  request.was_for_all = was_for_all;
  request.server_count =
      static_cast<uint8_t>(std::min(servers.size(), DnsRequest::kServersMax));
  std::copy_n(servers.begin(), request.server_count, request.servers.begin());
  return request;
}

DnsRequest request_to_unset(DnsTool tool, const std::string& device) {
  DnsRequest request{.tool = tool};
  device.copy(request.device.data(), request.device.size() - 1);
  return request;
}

std::vector<ToolCommand> commands_of(const DnsRequest& request) {
  const std::string device = name_in(request);
  const auto servers = std::span(request.servers).first(request.server_count);
  if (request.tool == DnsTool::resolvconf) {
    if (servers.empty()) return {{{"resolvconf", "-d", device}, ""}};
    std::string lines;
    for (const Ipv4Address& server : servers) lines += "nameserver " + server.to_string() + "\n";
    return {{{"resolvconf", "-a", device}, lines}};
  }
  if (servers.empty()) return {{{"resolvectl", "revert", device}, ""}};
  std::vector<std::string> words = {"resolvectl", "dns", device};
  for (const Ipv4Address& server : servers) words.push_back(server.to_string());
  std::vector<ToolCommand> commands = {{words, ""}};
  // "~." sends every name to this device's servers (resolvectl(1)).
  if (request.for_all || request.was_for_all) {
    commands.push_back({{"resolvectl", "domain", device, request.for_all ? "~." : ""}, ""});
  }
  return commands;
}

}  // namespace adit::client
