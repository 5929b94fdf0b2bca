// A bounded queue of values between two threads: rte_ring with one producer and one consumer.
#pragma once

#include <rte_ring_elem.h>

#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace adit::gateway {

template <typename T>
class Channel {
 public:
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % 4 == 0);

  // `capacity` is a power of two; one place of it stays empty. `name` is unique in the process.
  Channel(const char* name, unsigned capacity)
      : ring_(rte_ring_create_elem(name, sizeof(T), capacity, -1,
                                   RING_F_SP_ENQ | RING_F_SC_DEQ)) {
    if (ring_ == nullptr) throw std::runtime_error(std::string("cannot create the ring ") + name);
  }
  ~Channel() { rte_ring_free(ring_); }
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // False if it is full.
  bool push(T item) { return rte_ring_sp_enqueue_elem(ring_, &item, sizeof(T)) == 0; }
  // Pushes as many as there is room for, from the first on; returns how many.
  unsigned push_burst(std::span<const T> items) {
    return rte_ring_sp_enqueue_burst_elem(ring_, items.data(), sizeof(T),
                                          static_cast<unsigned>(items.size()), nullptr);
  }
  // Moves up to items.size() items out; returns how many.
  unsigned pop(std::span<T> items) {
    return rte_ring_sc_dequeue_burst_elem(ring_, items.data(), sizeof(T),
                                          static_cast<unsigned>(items.size()), nullptr);
  }
  // Calls take(item) for each, in order, until it is empty (false) or about `most` are out (true:
  // there may be more).
  template <typename Take>
  bool drain(unsigned most, Take&& take) {
    T items[32];
    for (unsigned taken = 0; taken < most;) {
      const unsigned count = pop(items);
      for (const T& item : std::span(items, count)) take(item);
      if (count < std::size(items)) return false;
      taken += count;
    }
    return true;
  }
  unsigned capacity() const { return rte_ring_get_capacity(ring_); }
  bool full() const { return rte_ring_full(ring_) != 0; }
  unsigned size() const { return rte_ring_count(ring_); }

 private:
  rte_ring* ring_;
};

}  // namespace adit::gateway
