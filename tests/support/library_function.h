// Where a test program defines a function of a shared library itself, to answer in its place: the
// library's own, behind ours.
#pragma once

#include <dlfcn.h>

#include <cassert>

namespace adit::test {

template <typename Function>
Function* library_function(const char* name) {
  void* const found = dlsym(RTLD_NEXT, name);
  assert(found != nullptr);
  return reinterpret_cast<Function*>(found);
}

}  // namespace adit::test
