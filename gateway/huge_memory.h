// Zeroed memory in pages as large as the machine gives, without anything to set up: an access to a
// large table should not miss the translation cache as well.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <span>
#include <utility>

namespace adit::gateway {

class HugeMemory {
 public:
  HugeMemory() = default;
  explicit HugeMemory(size_t bytes) {
    constexpr size_t kPage = size_t{2} << 20;
    bytes_ = (bytes + kPage - 1) / kPage * kPage;
    // One page more, so that a whole one can begin at a multiple of its size.
    mapped_ = bytes_ + kPage;
    map_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map_ == MAP_FAILED) throw std::bad_alloc();
    const auto at = reinterpret_cast<uintptr_t>(map_);
    data_ = reinterpret_cast<std::byte*>((at + kPage - 1) / kPage * kPage);
    madvise(data_, bytes_, MADV_HUGEPAGE);
  }
  HugeMemory(HugeMemory&& other) noexcept { swap(other); }
  HugeMemory& operator=(HugeMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  ~HugeMemory() {
    if (map_ != nullptr) munmap(map_, mapped_);
  }

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  std::span<std::byte> span() const { return {data_, bytes_}; }

 private:
  void swap(HugeMemory& other) {
    std::swap(map_, other.map_);
    std::swap(data_, other.data_);
    std::swap(mapped_, other.mapped_);
    std::swap(bytes_, other.bytes_);
  }
  void* map_ = nullptr;
  std::byte* data_ = nullptr;
  size_t mapped_ = 0;
  size_t bytes_ = 0;
};

}  // namespace adit::gateway
