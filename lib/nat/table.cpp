#include "lib/nat/table.h"

#include <cassert>

namespace adit::nat {
namespace {

// Hands out consecutive arrays of the memory, the most strictly aligned first.
class Carver {
 public:
  explicit Carver(std::span<std::byte> memory) : left_(memory) {}

  template <typename T>
  std::span<T> next(size_t count) {
    assert(left_.size() >= count * sizeof(T));
    assert(reinterpret_cast<uintptr_t>(left_.data()) % alignof(T) == 0);
    const std::span<T> out(reinterpret_cast<T*>(left_.data()), count);
    left_ = left_.subspan(count * sizeof(T));
    return out;
  }

 private:
  std::span<std::byte> left_;
};

}  // namespace

size_t Table::memory_bytes(size_t pool_addresses, unsigned sharers) {
  constexpr size_t kBytesPerUnit =
      sizeof(Mapping) * kWindowPorts * kProtocols + sizeof(Window) + sizeof(BlockRecord);
  const size_t own = sizeof(GrantedBlock) * kUnitsPerAddress + sizeof(AddressUnits);
  return pool_addresses * (kBytesPerUnit * kUnitsPerAddress + sharers * own);
}

Table::Table(std::span<const Ipv4Address> pool, std::span<std::byte> memory, unsigned sharers,
             unsigned share)
    : pool_(pool) {
  assert(share < sharers && memory.size() >= memory_bytes(pool.size(), sharers));
  Carver carver(memory);
  const size_t units = pool.size() * kUnitsPerAddress;
  mappings_ = carver.next<Mapping>(units * kWindowPorts * kProtocols);
  windows_ = carver.next<Window>(units);
  units_ = carver.next<AddressUnits>(pool.size() * sharers)
               .subspan(pool.size() * share, pool.size());
  blocks_ = carver.next<BlockRecord>(units);
  granted_ = carver.next<GrantedBlock>(units * sharers).subspan(units * share, units);
}

void Table::reserve(uint32_t pool_index, uint32_t port) {
  Window& line = windows_[pool_index * kUnitsPerAddress + port / kWindowPorts];
  for (unsigned p = 0; p < kProtocols; ++p) {
    Mapping& entry = mapping(pool_index, static_cast<Protocol>(p), port);
    entry.state = MappingState::reserved;
    entry.tag = kReservedTag;
    line.tags[p][port % kWindowPorts] = kReservedTag;
  }
}

void Table::withdraw_reserved_windows(bool keeps_parity) {
  constexpr unsigned kEven = 0x5555;
  constexpr unsigned kOdd = 0xaaaa;
  for (uint32_t unit = 0; unit < total_units(); ++unit) {
    const unsigned reserved = matching_tags(windows_[unit].tags[0], kReservedTag);
    const bool all = reserved == (kEven | kOdd);
    const bool all_of_one_parity = (reserved & kEven) == kEven || (reserved & kOdd) == kOdd;
    if (all || (keeps_parity && all_of_one_parity)) {
      units_[unit / kUnitsPerAddress].withdraw(unit % kUnitsPerAddress);
    }
  }
}

}  // namespace adit::nat
