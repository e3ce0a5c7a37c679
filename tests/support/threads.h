// Results that must not depend on the number of threads.
#pragma once

#include <gtest/gtest.h>

#include "core/parallel.h"

namespace pith::test {

// run() gives equal values on 1, 2, 3 and 7 threads.
template <class F>
void expect_same_on_any_number_of_threads(F run) {
  set_threads(1);
  const auto one = run();
  for (const int threads : {2, 3, 7}) {
    set_threads(threads);
    EXPECT_EQ(run(), one) << threads << " threads";
  }
  set_threads(0);
}

}  // namespace pith::test
