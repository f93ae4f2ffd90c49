#pragma once

#include <doctest/doctest.h>

#include "waveq/graph/error.h"

namespace waveq::test {

/// Code of the Error that f ends with; fails the test when it ends well.
template <class F>
ErrorCode code_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.code();
  }
  FAIL("no error");
  return ErrorCode::internal;
}

}  // namespace waveq::test
