// A list that holds up to N elements inside itself: messages off the wire are bounded, so parsing
// one needs no heap.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

namespace adit::dhcp {

template <typename T, size_t N>
class FixedList {
 public:
  constexpr FixedList() = default;

  // Appends unless the list is full; says whether it did.
  constexpr bool push_back(const T& element) {
    if (size_ == N) return false;
    elements_[size_++] = element;
    return true;
  }
  // Replaces the content by as many leading elements of `source` as fit.
  constexpr void assign(std::span<const T> source) {
    size_ = std::min(source.size(), N);
    std::copy_n(source.begin(), size_, elements_.begin());
  }
  constexpr void pop_back() { --size_; }

  static constexpr size_t capacity() { return N; }
  constexpr size_t size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }
  constexpr const T* data() const { return elements_.data(); }
  constexpr const T* begin() const { return data(); }
  constexpr const T* end() const { return data() + size_; }
  constexpr const T& operator[](size_t i) const { return elements_[i]; }
  constexpr std::span<const T> span() const { return {data(), size_}; }

  friend constexpr bool operator==(const FixedList& a, const FixedList& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  std::array<T, N> elements_{};
  size_t size_ = 0;
};

}  // namespace adit::dhcp
