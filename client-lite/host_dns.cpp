#include "client-lite/host_dns.h"

#include <net/if.h>

#include <utility>

namespace adit::client {
namespace {

constexpr const char* kLost =
    "the child that tells the resolver is gone: name servers stay as they are";

// As the undo journal has it.
std::string change_of(DnsTool tool, const std::string& device) {
  return std::string("dns ") + name_of(tool) + " " + device;
}

// systemd-resolved forgets what it was told of a device when that is gone.
bool is_gone_with(DnsTool tool, const std::string& device) {
  return tool == DnsTool::resolvectl && if_nametoindex(device.c_str()) == 0;
}

}  // namespace

void HostDns::want(const std::string& device, Servers servers) {
  device_ = device;
  wanted_ = std::move(servers);
  if (step_ == Step::idle) begin();
}

// Who is told of other servers forgets the former ones in the same moment. Those are taken back
// only where none are wanted, or where they were told to another program, or of another name of the
// device: then afterwards.
void HostDns::begin() {
  if (wanted_ == accepted_ && problem_.empty()) return;
  tried_ = wanted_;
  if (!wanted_.addresses.empty()) return tell();
  accepted_ = wanted_;
  problem_.clear();
  logged_problem_.clear();
  untell();
}

void HostDns::tell() {
  const std::optional<DnsTool> tool = find_dns_tool();
  if (!tool) {
    return fail("the gateway names DNS servers, but this host has neither systemd-resolved nor "
                "resolvconf: they are not used");
  }
  const Place place{*tool, device_};
  if (place != place_) {
    if (!journal_.record(change_of(place.tool, place.device))) {
      return fail("the undo journal cannot be written: DNS is left as it is");
    }
    former_ = std::exchange(place_, place);
    was_for_all_ = false;
  }
  step_ = Step::telling;
  const DnsRequest request = request_to_set(place.tool, place.device, tried_.addresses,
                                            tried_.for_all, was_for_all_);
  was_for_all_ |= tried_.for_all;
  ask(request);
}

void HostDns::untell() {
  if (!former_ && tried_.addresses.empty()) former_ = std::exchange(place_, std::nullopt);
  if (former_) {
    step_ = Step::untelling;
    return ask(request_to_unset(former_->tool, former_->device));
  }
  step_ = Step::idle;
  if (wanted_ != tried_) begin();
}

void HostDns::ask(const DnsRequest& request) {
  if (teller_.fd() < 0) return on_ended(teller_.run(request));
  if (!teller_.start(request)) on_ended(false);
}

void HostDns::on_readable() {
  if (const std::optional<bool> well = teller_.take_result()) on_ended(*well);
  if (step_ == Step::idle && teller_.is_lost()) fail(kLost);
}

void HostDns::on_ended(bool well) {
  switch (step_) {
    case Step::idle:
      return;
    case Step::telling:
      return on_told(well);
    case Step::untelling:
      if (well || is_gone_with(former_->tool, former_->device)) {
        forget(former_);
        return untell();
      }
      step_ = Step::idle;
      return fail(teller_.is_lost() ? kLost
                                    : std::string(name_of(former_->tool)) +
                                          " did not take the DNS servers of " + former_->device +
                                          " back");
  }
}

void HostDns::on_told(bool well) {
  if (well) {
    accepted_ = tried_;
    was_for_all_ = tried_.for_all;
    problem_.clear();
    logged_problem_.clear();
  } else {
    accepted_ = {};
    fail(teller_.is_lost() ? kLost
                           : std::string(name_of(place_->tool)) +
                                 " refused the tunnel's DNS servers");
  }
  untell();
}

void HostDns::withdraw() {
  step_ = Step::idle;
  wanted_ = tried_ = accepted_ = {};
  problem_.clear();
  for (std::optional<Place>* place : {&former_, &place_}) {
    if (!*place) continue;
    if (undo((*place)->tool, (*place)->device)) forget(*place);
    place->reset();
  }
}

bool HostDns::undo(DnsTool tool, const std::string& device) {
  if (teller_.run(request_to_unset(tool, device)) || is_gone_with(tool, device)) return true;
  log_.warning("%s did not take the DNS servers of %s back", name_of(tool), device.c_str());
  return false;
}

void HostDns::forget(std::optional<Place>& place) {
  journal_.strike_out(change_of(place->tool, place->device));
  place.reset();
}

void HostDns::fail(std::string problem) {
  if (problem != logged_problem_) log_.warning("%s", problem.c_str());
  logged_problem_ = problem;
  problem_ = std::move(problem);
}

}  // namespace adit::client
